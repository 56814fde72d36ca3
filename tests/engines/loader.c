/* loader NAME…: opens libraries by name, as programs do, and prints for each where the dynamic loader found it, and
 * under which other name it was opened before, if it was. Then it prints the result of cuInit. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    void *opened[64];
    int (*cu_init)(unsigned) = NULL;

    for (int i = 1; i < argc && i < 64; i++) {
        struct link_map *map;
        const char *again = "";

        opened[i] = dlopen(argv[i], RTLD_NOW);
        if (!opened[i]) {
            printf("%s: %s\n", argv[i], dlerror());
            return 1;
        }
        for (int before = 1; before < i; before++)
            if (opened[before] == opened[i])
                again = argv[before];
        dlinfo(opened[i], RTLD_DI_LINKMAP, &map);
        printf("%s %s%s%s\n", argv[i], map->l_name, *again ? " is " : "", again);
        if (!cu_init)
            cu_init = (int (*)(unsigned))dlsym(opened[i], "cuInit");
    }
    if (cu_init)
        printf("cuInit %d\n", cu_init(0));
    return 0;
}
