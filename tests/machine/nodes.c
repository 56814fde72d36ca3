/* nodes NAME MAJOR:MINOR …: makes character devices that open, in the place of a driver. NAME is below /dev, with a
 * '!' for each '/'. Each device is served by a process of its own, by the protocol of /dev/cuse (linux/fuse.h,
 * fs/fuse/cuse.c); the program itself ends when all exist. Every open and every ioctl is a line on standard output.
 * GET_NUMBERS returns the numbers that the device was made with, which prove to a caller which device it has opened. */
#include "numbers.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

struct request {
    struct fuse_in_header head;
    union {
        struct cuse_init_in init;
        struct fuse_ioctl_in ioctl;
        /* fuse_dev_do_read() refuses a smaller buffer (fs/fuse/dev.c). */
        char room[FUSE_MIN_READ_BUFFER];
    };
};

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(1);
}

static void answer(int cuse, const struct request *to, int error, struct iovec *parts, int count)
{
    struct fuse_out_header head = {.len = sizeof head, .error = -error, .unique = to->head.unique};

    for (int i = 1; i < count; i++)
        head.len += parts[i].iov_len;
    parts[0] = (struct iovec){&head, sizeof head};
    /* ENOENT: the caller was killed in the meantime (fuse_dev_do_write() finds no such request). */
    if (writev(cuse, parts, count) < 0 && errno != ENOENT)
        die("nodes: answer");
}

/* Answers CUSE_INIT; the kernel then creates the device (cuse_process_init_reply()). */
static void answer_init(int cuse, const struct request *request, const char *name, struct numbers own)
{
    char info[128];
    int length = snprintf(info, sizeof info, "DEVNAME=%s", name) + 1;
    struct cuse_init_out out = {
        .major = FUSE_KERNEL_VERSION,
        .minor = FUSE_KERNEL_MINOR_VERSION,
        .max_read = 4096,
        .max_write = 4096,
        .dev_major = own.major,
        .dev_minor = own.minor,
    };
    struct iovec parts[] = {{0}, {&out, sizeof out}, {info, length}};

    if (request->head.opcode != CUSE_INIT)
        die("nodes: the kernel does not begin with CUSE_INIT");
    answer(cuse, request, 0, parts, 3);
}

static void serve(int cuse, const struct request *request, struct numbers own)
{
    struct fuse_open_out opened = {0};
    struct fuse_ioctl_out done = {0};
    struct iovec parts[] = {{0}, {&opened, sizeof opened}, {&own, sizeof own}};

    switch (request->head.opcode) {
    case FUSE_OPEN:
        printf("open %u:%u\n", own.major, own.minor);
        answer(cuse, request, 0, parts, 2);
        break;
    case FUSE_IOCTL:
        printf("ioctl %u:%u\n", own.major, own.minor);
        if (request->ioctl.cmd != GET_NUMBERS || request->ioctl.out_size != sizeof own) {
            answer(cuse, request, ENOTTY, parts, 1);
            break;
        }
        parts[1] = (struct iovec){&done, sizeof done};
        answer(cuse, request, 0, parts, 3);
        break;
    case FUSE_RELEASE:
        answer(cuse, request, 0, parts, 1);
        break;
    case FUSE_INTERRUPT:
        /* The kernel expects no answer to it; the interrupted request gets its own. */
        break;
    default:
        answer(cuse, request, ENOSYS, parts, 1);
    }
}

/* Serves one device until the kernel ends the connection. */
static _Noreturn void device(const char *name, struct numbers own, int ready)
{
    static struct request request;
    int cuse = open("/dev/cuse", O_RDWR | O_CLOEXEC);

    if (cuse < 0)
        die("nodes: open /dev/cuse");
    if (read(cuse, &request, sizeof request) < 0)
        die("nodes: read /dev/cuse");
    answer_init(cuse, &request, name, own);
    if (write(ready, "", 1) != 1)
        die("nodes: report that the device is ready");
    close(ready);
    for (;;) {
        if (read(cuse, &request, sizeof request) >= 0)
            serve(cuse, &request, own);
        else if (errno != EINTR && errno != ENOENT)
            /* Also when the numbers belong to an existing device: the kernel ends the connection then. */
            die(name);
    }
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i + 1 < argc; i += 2) {
        struct numbers own;
        int ready[2];
        char byte;

        if (sscanf(argv[i + 1], "%u:%u", &own.major, &own.minor) != 2 || pipe(ready) < 0)
            die("nodes: NAME MAJOR:MINOR …");
        switch (fork()) {
        case -1:
            die("nodes: fork");
        case 0:
            close(ready[0]);
            device(argv[i], own, ready[1]);
        }
        close(ready[1]);
        if (read(ready[0], &byte, 1) != 1)
            die(argv[i]);
        close(ready[0]);
    }
    return 0;
}
