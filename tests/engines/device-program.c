/* BPF programs of the device cgroup, as systemd and container runtimes attach them:
 *   device-program attach CGROUP NAME FLAGS [call]   attaches a program that denies everything, and calls a function first
 *   device-program allow CGROUP MAJOR                attaches one that calls a function and allows the devices of a
 *                                                    major number, but for the minor numbers 1 and 2
 *   device-program list CGROUP                       prints the flags of the attachment, and each program's id, name and size
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static int bpf(int command, union bpf_attr *attr, const char *what)
{
    long result = syscall(SYS_bpf, command, attr, sizeof(*attr));

    if (result < 0) {
        fprintf(stderr, "device-program: %s: %s\n", what, strerror(errno));
        exit(1);
    }
    return (int)result;
}

static void attach_program(int cgroup, const char *name, unsigned flags, struct bpf_insn *program, unsigned length)
{
    union bpf_attr load = {
        .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
        .insns = (unsigned long)program,
        .insn_cnt = length,
        .license = (unsigned long)"GPL",
    };
    union bpf_attr attach = {.attach_type = BPF_CGROUP_DEVICE, .attach_flags = flags};
    /* Kernels before 5.11 count the memory of programs against this limit. */
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};

    setrlimit(RLIMIT_MEMLOCK, &limit);
    strncpy(load.prog_name, name, sizeof(load.prog_name) - 1);
    attach.target_fd = cgroup;
    attach.attach_bpf_fd = bpf(BPF_PROG_LOAD, &load, "load");
    bpf(BPF_PROG_ATTACH, &attach, "attach");
}

static void attach(int cgroup, const char *name, unsigned flags, int calls)
{
    /* bpf_get_prandom_u32(), r0 = 0, exit. */
    struct bpf_insn program[] = {
        {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_get_prandom_u32},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = 0},
        {.code = BPF_JMP | BPF_EXIT},
    };

    attach_program(cgroup, name, flags, &program[!calls], calls ? 3 : 2);
}

static void allow(int cgroup, int major)
{
    /* r6 = the context, bpf_get_prandom_u32(), r1 = major, r2 = minor, r0 = 0, r0 = 1 if they are right, exit. */
    struct bpf_insn program[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 6, .src_reg = 1},
        {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_get_prandom_u32},
        {.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 1, .src_reg = 6, .off = offsetof(struct bpf_cgroup_dev_ctx, major)},
        {.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 2, .src_reg = 6, .off = offsetof(struct bpf_cgroup_dev_ctx, minor)},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = 0},
        {.code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = 1, .off = 2, .imm = major},
        {.code = BPF_JMP | BPF_JLE | BPF_K, .dst_reg = 2, .off = 1, .imm = 2},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = 1},
        {.code = BPF_JMP | BPF_EXIT},
    };

    attach_program(cgroup, "allow", 0, program, sizeof(program) / sizeof(program[0]));
}

static void list(int cgroup)
{
    unsigned ids[64];
    union bpf_attr query = {.query = {
        .target_fd = cgroup,
        .attach_type = BPF_CGROUP_DEVICE,
        .prog_ids = (unsigned long)ids,
        .prog_cnt = 64,
    }};

    bpf(BPF_PROG_QUERY, &query, "query");
    printf("flags %u\n", query.query.attach_flags);
    for (unsigned i = 0; i < query.query.prog_cnt; i++) {
        struct bpf_prog_info info = {0};
        union bpf_attr open = {.prog_id = ids[i]};
        union bpf_attr get = {.info = {.info_len = sizeof(info), .info = (unsigned long)&info}};

        get.info.bpf_fd = bpf(BPF_PROG_GET_FD_BY_ID, &open, "open");
        bpf(BPF_OBJ_GET_INFO_BY_FD, &get, "read");
        printf("%u %s %zu\n", ids[i], info.name, info.xlated_prog_len / sizeof(struct bpf_insn));
        close(get.info.bpf_fd);
    }
}

int main(int argc, char **argv)
{
    int cgroup = argc > 2 ? open(argv[2], O_RDONLY | O_DIRECTORY) : -1;

    if (cgroup >= 0 && argc >= 5 && !strcmp(argv[1], "attach"))
        attach(cgroup, argv[3], (unsigned)atoi(argv[4]), argc > 5);
    else if (cgroup >= 0 && argc == 4 && !strcmp(argv[1], "allow"))
        allow(cgroup, atoi(argv[3]));
    else if (cgroup >= 0 && argc == 3 && !strcmp(argv[1], "list"))
        list(cgroup);
    else {
        fprintf(stderr, "device-program attach CGROUP NAME FLAGS [call] | allow CGROUP MAJOR | list CGROUP\n");
        return 2;
    }
    return 0;
}
