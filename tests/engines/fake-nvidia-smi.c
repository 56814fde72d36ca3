/* An nvidia-smi that asks NVML for the driver's version. */
#include <dlfcn.h>
#include <stdio.h>

int main(void)
{
    void *nvml = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    int (*init)(void), (*version)(char *, unsigned);
    char text[80];

    if (!nvml) {
        puts(dlerror());
        return 1;
    }
    init = (int (*)(void))dlsym(nvml, "nvmlInit_v2");
    version = (int (*)(char *, unsigned))dlsym(nvml, "nvmlSystemGetDriverVersion");
    if (init() || version(text, sizeof text)) {
        puts("no driver");
        return 9;
    }
    printf("driver %s\n", text);
    return 0;
}
