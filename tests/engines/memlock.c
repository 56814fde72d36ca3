/* crun before 1.9 raises RLIMIT_MEMLOCK before it loads its device program, and gives up when it may
 * not. Kernels since 5.11 do not count that memory. Preloaded, this lets the refusal pass. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
    long result = syscall(SYS_prlimit64, 0, resource, limit, NULL);

    return result < 0 && resource == RLIMIT_MEMLOCK && errno == EPERM ? 0 : (int)result;
}

int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *limit)
{
    return setrlimit(resource, (const struct rlimit *)limit);
}
