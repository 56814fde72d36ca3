/* A library of an attacker: it makes the file CANARY when a program loads it. */
#include <fcntl.h>
#include <unistd.h>

__attribute__((constructor)) static void loaded(void)
{
    close(open(CANARY, O_CREAT | O_WRONLY, 0644));
}
