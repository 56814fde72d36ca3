/* Preloaded into crun before 1.9, which raises RLIMIT_MEMLOCK before it loads its device program and fails without
 * CAP_SYS_RESOURCE. Kernels since 5.11 do not charge BPF memory to that limit, so the refusal is ignored here. */
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
