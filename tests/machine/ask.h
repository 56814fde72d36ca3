/* What the devices of nodes.c can be asked. */
#include <sys/ioctl.h>

struct numbers {
    unsigned major, minor;
};

/* 'F' is the letter of the driver's own ioctls, whose numbers begin at 0x27 (open-gpu-kernel-modules nv_escape.h). */
#define ASK _IOR('F', 1, struct numbers)
