/* A libxenstat that does wrong what the sanitizers are there to see, by WRONG: `address` names domains by memory that
 * has been freed, `thread` writes to memory that another thread writes to. All else is the shim's, which it is linked to. */
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
