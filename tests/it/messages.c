/* A libxenstat that prints two lines at each call, one of them always another. All other functions are the shim's, which it
 * is linked with. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>

void *xenstat_get_node(void *handle, unsigned int flags)
{
    static int calls;
    void *(*shims)(void *, unsigned int) = dlsym(RTLD_NEXT, "xenstat_get_node");

    fprintf(stderr, "xc: error: %s", "no buffer\n");
    fprintf(stderr, "call %d\n", ++calls);
    return shims(handle, flags);
}
