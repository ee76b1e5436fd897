/* A libxenstat that keeps thread-specific data, as libxenctrl does with the text of an error. It says if it is unloaded
 * while the process lives. All other functions are the shim's, which it is linked with. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_key_t key;

static void discard(void *text)
{
    free(text);
}

__attribute__((constructor)) static void loaded(void)
{
    pthread_key_create(&key, discard);
}

/* At the end of the process the main thread calls it. */
__attribute__((destructor)) static void unloaded(void)
{
    if (syscall(SYS_gettid) != getpid())
        (void)!write(2, "unloaded\n", 9);
}

void *xenstat_get_node(void *handle, unsigned int flags)
{
    void *(*shims)(void *, unsigned int) = dlsym(RTLD_NEXT, "xenstat_get_node");

    if (!pthread_getspecific(key))
        pthread_setspecific(key, malloc(16));
    return shims(handle, flags);
}
