/* Ioctl of the devices of nodes.c: the device numbers that a device was made with. */
#include <sys/ioctl.h>

struct numbers {
    unsigned major, minor;
};

/* 'F' is NV_IOCTL_MAGIC, the letter of the driver's own ioctls; their numbers begin at 0x27, so 1 is none of them
 * (open-gpu-kernel-modules, nv-ioctl-numbers.h and nv_escape.h). */
#define GET_NUMBERS _IOR('F', 1, struct numbers)
