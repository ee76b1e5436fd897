/* A libxenstat with a bug for each sanitizer, chosen by WRONG: `address` returns freed memory as the names of domains,
 * `thread` writes to memory that another thread writes to. All other functions are the shim's, which it is linked with. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static char shared[64];

static void *write_to_it(void *unused)
{
    memset(shared, 1, sizeof shared);
    return unused;
}

char *xenstat_domain_name(void *domain)
{
    pthread_t other;
    char *name = strdup("web01");
    if (!domain || strcmp(getenv("WRONG"), "thread"))
        free(name);
    else if (!pthread_create(&other, NULL, write_to_it, NULL)) {
        memset(shared, 2, sizeof shared);
        pthread_join(other, NULL);
    }
    return name;
}
