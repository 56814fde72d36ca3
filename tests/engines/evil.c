/* A library that says that it was loaded, by making CANARY. */
#include <fcntl.h>
#include <unistd.h>

__attribute__((constructor)) static void loaded(void)
{
    close(open(CANARY, O_CREAT | O_WRONLY, 0644));
}
