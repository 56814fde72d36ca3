/* probe [MAJOR:MINOR …]: prints what a container sees, one fact a line:
 *   node PATH MODE MAJOR:MINOR RESULT   each character device of the driver's
 *   made MAJOR:MINOR RESULT             for each argument: a node made here
 * RESULT is the numbers that the device behind the node returns, or the error of open(2) or ioctl(2). */
#define _GNU_SOURCE
#include "numbers.h"
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* A device rule may permit reading only, or writing only, so all three access modes are tried. */
static const char *result(const char *path)
{
    static const int modes[] = {O_RDWR, O_RDONLY, O_WRONLY};
    static char text[64];
    struct numbers numbers = {0};
    int device = -1;

    for (int i = 0; i < 3 && device < 0; i++)
        device = open(path, modes[i] | O_CLOEXEC);
    if (device < 0)
        return strerrorname_np(errno);
    if (ioctl(device, GET_NUMBERS, &numbers) < 0)
        snprintf(text, sizeof text, "opens, but ioctl %s", strerrorname_np(errno));
    else
        snprintf(text, sizeof text, "%u:%u", numbers.major, numbers.minor);
    close(device);
    return text;
}

static int visit(const char *path, const struct stat *stat, int kind, struct FTW *walk)
{
    (void)kind, (void)walk;
    if (S_ISCHR(stat->st_mode) && !strncmp(path, "/dev/nvidia", 11))
        printf("node %s %o %u:%u %s\n", path, stat->st_mode & 07777, major(stat->st_rdev),
               minor(stat->st_rdev), result(path));
    return 0;
}

int main(int argc, char **argv)
{
    if (nftw("/dev", visit, 8, FTW_PHYS) < 0)
        return perror("probe: walk /dev"), 1;
    for (int i = 1; i < argc; i++) {
        unsigned major, minor;

        if (sscanf(argv[i], "%u:%u", &major, &minor) != 2)
            return fprintf(stderr, "probe: %s is no MAJOR:MINOR\n", argv[i]), 2;
        if (mknod("/tmp/node", S_IFCHR | 0666, makedev(major, minor)) < 0) {
            printf("made %s cannot be made: %s\n", argv[i], strerrorname_np(errno));
            continue;
        }
        printf("made %s %s\n", argv[i], result("/tmp/node"));
        unlink("/tmp/node");
    }
    return 0;
}
