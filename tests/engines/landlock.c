/* Runs a program in a Landlock domain, which keeps even root from looking at the processes outside of it:
 *   landlock PROGRAM ARGUMENT…
 */
#include <linux/landlock.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    /* A domain has to restrict something. Nothing here makes a FIFO. */
    struct landlock_ruleset_attr rules = {.handled_access_fs = LANDLOCK_ACCESS_FS_MAKE_FIFO};
    int ruleset = syscall(SYS_landlock_create_ruleset, &rules, sizeof(rules), 0);

    if (argc < 2)
        return 2;
    if (ruleset < 0 || syscall(SYS_landlock_restrict_self, ruleset, 0) != 0) {
        perror("landlock");
        return 1;
    }
    execv(argv[1], argv + 1);
    perror(argv[1]);
    return 1;
}
