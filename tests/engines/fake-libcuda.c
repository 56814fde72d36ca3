/* A libcuda.so.1 that finds no device. */
int cuInit(unsigned flags)
{
    return flags ? 1 : 100;
}
