/* A program whose main thread ends at once; a second thread goes on. */
#include <pthread.h>
#include <stddef.h>
#include <unistd.h>

static void *sleep_until_killed(void *unused)
{
    pause();
    return unused;
}

int main(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, sleep_until_killed, NULL) != 0)
        return 1;
    pthread_exit(NULL);
}
