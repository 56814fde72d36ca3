/* Mounts a FUSE file system whose server never answers, in a mount namespace of its own, and opens its root by name alone:
 *   dead-file-system POINT READY   makes the file READY when it is mounted
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

static void fail(const char *what)
{
    perror(what);
    _exit(1);
}

int main(int argc, char **argv)
{
    char options[80];
    int server, directory;

    if (argc != 3)
        return 2;
    /* Outside of what is mounted. */
    directory = open("/", O_PATH);
    server = open("/dev/fuse", O_RDWR);
    snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", server);
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        fail("unshare");
    if (mount("dead", argv[1], "fuse", 0, options) != 0)
        fail("mount");
    /* Only a path with a parent directory leads from this root to what is mounted on it. */
    if (open(strcmp(argv[1], "/") == 0 ? "/.." : argv[1], O_PATH) < 0)
        fail(argv[1]);
    if (openat(directory, argv[2] + 1, O_WRONLY | O_CREAT, 0644) < 0)
        fail(argv[2]);
    pause();
    return 0;
}
