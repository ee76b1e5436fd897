/* Stand-ins for libxenctrl and libxenstore: as much of both as libxenstat needs, compiled for the structures of one
 * release. The host that they show is described in the file $XEN_HOST, one fact a line:
 *
 *     host CPUS PAGES FREE_PAGES VERSION
 *     domain DOMID STATE CPU_NS CPU_NS_PER_POLL VCPUS PAGES MAX_PAGES SSID VCPU_ERRNO
 *     /path/in/xenstore value
 *
 * VERSION is as in 4.17.5. STATE is xentop's column without its dashes, or a dash. A domain of 0 VCPUS is being built.
 * VCPU_ERRNO is what every question about its vcpus fails with, or 0.
 *
 * Where $XEN_CALLS names a file, each call that asks the hypervisor or xenstored is a line there.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <xenctrl.h>
#include <xenstore.h>

struct domain {
    unsigned int id, vcpus, ssid;
    int vcpu_errno;
    char state[8];
    unsigned long long cpu, cpu_per_poll, pages, max_pages;
};

struct entry {
    char *path, *value;
};

static struct {
    unsigned int cpus, major, minor;
    unsigned long long pages, free_pages;
    char extra[16];
    struct domain *domains;
    size_t number;
    struct entry *store;
    size_t entries;
} host;

/* The calls of xenstat_get_node, each of which begins with the host's own numbers. */
static unsigned int polls;

static void die(const char *what)
{
    fprintf(stderr, "stand-in for Xen: %s\n", what);
    abort();
}

static void called(const char *function)
{
    const char *path = getenv("XEN_CALLS");
    FILE *file;

    if (!path)
        return;
    if (!(file = fopen(path, "a")))
        die("XEN_CALLS cannot be written");
    fprintf(file, "%s\n", function);
    fclose(file);
}

static void *larger(void *list, size_t number, size_t size)
{
    list = realloc(list, (number + 1) * size);
    if (!list)
        die("out of memory");
    return list;
}

static void read_line(char *line)
{
    struct domain domain = {0};
    struct entry entry;
    char *space;

    if (line[0] == '/') {
        space = strchr(line, ' ');
        if (!space)
            die(line);
        *space = 0;
        entry.path = strdup(line);
        entry.value = strdup(space + 1);
        host.store = larger(host.store, host.entries, sizeof entry);
        host.store[host.entries++] = entry;
    } else if (sscanf(line, "host %u %llu %llu %u.%u%15s", &host.cpus, &host.pages, &host.free_pages, &host.major,
                      &host.minor, host.extra) == 6) {
    } else if (sscanf(line, "domain %u %7s %llu %llu %u %llu %llu %u %d", &domain.id, domain.state, &domain.cpu,
                      &domain.cpu_per_poll, &domain.vcpus, &domain.pages, &domain.max_pages, &domain.ssid,
                      &domain.vcpu_errno) == 9) {
        host.domains = larger(host.domains, host.number, sizeof domain);
        host.domains[host.number++] = domain;
    } else {
        die(line);
    }
}

static void read_host(void)
{
    const char *path = getenv("XEN_HOST");
    FILE *file;
    char *line = NULL;
    size_t size = 0;

    if (host.number)
        return;
    if (!path || !(file = fopen(path, "r")))
        die("XEN_HOST names no file");
    while (getline(&line, &size, file) > 0) {
        line[strcspn(line, "\n")] = 0;
        read_line(line);
    }
    free(line);
    fclose(file);
}

/* --- libxenctrl ------------------------------------------------------------------------------------------- */

static __thread int is_polling;

xc_interface *xc_interface_open(xentoollog_logger *logger, xentoollog_logger *dombuild, unsigned flags)
{
    read_host();
    is_polling = 1;
    return calloc(1, 1);
}

int xc_interface_close(xc_interface *xch)
{
    free(xch);
    return 0;
}

int xc_physinfo(xc_interface *xch, xc_physinfo_t *info)
{
    called(__func__);
    polls++;
    memset(info, 0, sizeof *info);
    info->nr_cpus = host.cpus;
    info->cpu_khz = 2400000;
    info->total_pages = host.pages;
    info->free_pages = host.free_pages;
    return 0;
}

/* CPU 0 is always busy, CPU 1 a quarter of the time idle, and so on. By the clock below, as libxenstore has a copy of
 * this function whose polls are not counted. */
int xc_getcpuinfo(xc_interface *xch, int most, xc_cpuinfo_t *info, int *number)
{
    struct timespec now;
    int cpu;

    called(__func__);
    read_host();
    clock_gettime(CLOCK_MONOTONIC, &now);
    for (cpu = 0; cpu < (int)host.cpus && cpu < most; cpu++)
        info[cpu].idletime = 1000000000000 + (now.tv_sec * 1000000000ULL + now.tv_nsec) / 4 * (cpu % 4);
    *number = cpu;
    return 0;
}

int xc_version(xc_interface *xch, int cmd, void *arg)
{
    called(__func__);
    if (cmd == XENVER_extraversion)
        strcpy(arg, host.extra);
    return host.major << 16 | host.minor;
}

static uint32_t flags_of(const struct domain *domain)
{
    static const struct {
        char letter;
        uint32_t flag;
    } states[] = {
        {'d', XEN_DOMINF_dying},
        {'s', XEN_DOMINF_shutdown},
        {'c', XEN_DOMINF_shutdown | SHUTDOWN_crash << XEN_DOMINF_shutdownshift},
        {'p', XEN_DOMINF_paused},
        {'b', XEN_DOMINF_blocked},
        {'r', XEN_DOMINF_running},
    };
    uint32_t flags = 0;
    size_t i;

    for (i = 0; i < sizeof states / sizeof *states; i++)
        if (strchr(domain->state, states[i].letter))
            flags |= states[i].flag;
    return flags;
}

static uint64_t cpu_of(const struct domain *domain)
{
    return domain->cpu + polls * domain->cpu_per_poll;
}

int xc_domain_getinfolist(xc_interface *xch, uint32_t first, unsigned int most, xc_domaininfo_t *info)
{
    const struct domain *domain;
    unsigned int found = 0;

    called(__func__);
    for (domain = host.domains; domain < host.domains + host.number && found < most; domain++) {
        if (domain->id < first)
            continue;
        memset(&info[found], 0, sizeof *info);
        info[found].domain = domain->id;
        info[found].flags = flags_of(domain);
        info[found].cpu_time = cpu_of(domain);
        info[found].nr_online_vcpus = domain->vcpus;
        info[found].max_vcpu_id = domain->vcpus - 1;
        info[found].tot_pages = domain->pages;
        info[found].max_pages = domain->max_pages;
        info[found].ssidref = domain->ssid;
        found++;
    }
    return found;
}

int xc_vcpu_getinfo(xc_interface *xch, uint32_t domid, uint32_t vcpu, xc_vcpuinfo_t *info)
{
    const struct domain *domain;

    called(__func__);
    for (domain = host.domains; domain < host.domains + host.number; domain++) {
        if (domain->id != domid || vcpu >= domain->vcpus)
            continue;
        if ((errno = domain->vcpu_errno))
            return -1;
        memset(info, 0, sizeof *info);
        info->vcpu = vcpu;
        info->online = 1;
        info->cpu_time = cpu_of(domain) / domain->vcpus;
        return 0;
    }
    errno = ESRCH;
    return -1;
}

/* --- libxenstore ------------------------------------------------------------------------------------------ */

struct xs_handle *xs_open(unsigned long flags)
{
    called(__func__);
    read_host();
    return calloc(1, 1);
}

void xs_close(struct xs_handle *xs)
{
    free(xs);
}

/* Those that 4.14 calls. */
struct xs_handle *xs_daemon_open_readonly(void)
{
    return xs_open(0);
}

void xs_daemon_close(struct xs_handle *xs)
{
    xs_close(xs);
}

/* No domain comes or goes. */
bool xs_watch(struct xs_handle *xs, const char *path, const char *token)
{
    called(__func__);
    return true;
}

char **xs_check_watch(struct xs_handle *xs)
{
    errno = EAGAIN;
    return NULL;
}

/* What follows `path` and a slash in that of an entry. */
static const char *below(const struct entry *entry, const char *path)
{
    size_t length = strlen(path);

    return strncmp(entry->path, path, length) == 0 && entry->path[length] == '/' ? entry->path + length + 1 : NULL;
}

void *xs_read(struct xs_handle *xs, xs_transaction_t transaction, const char *path, unsigned int *length)
{
    const struct entry *entry;
    const char *value = NULL;

    called(__func__);
    for (entry = host.store; entry < host.store + host.entries; entry++) {
        if (strcmp(entry->path, path) == 0) {
            value = entry->value;
            break;
        }
        if (below(entry, path))
            value = "";
    }
    if (!value) {
        errno = ENOENT;
        return NULL;
    }
    if (length)
        *length = strlen(value);
    return strdup(value);
}

/* As the real one: pointers and text in one block. What is below one directory stands together. */
char **xs_directory(struct xs_handle *xs, xs_transaction_t transaction, const char *path, unsigned int *number)
{
    const struct entry *entry;
    const char *child, *previous = "";
    char **names, *text;
    size_t size, previous_size = 0;

    called(__func__);
    *number = 0;
    names = malloc(host.entries * (sizeof *names + 16));
    if (!names)
        die("out of memory");
    text = (char *)(names + host.entries);
    for (entry = host.store; entry < host.store + host.entries; entry++) {
        child = below(entry, path);
        if (!child)
            continue;
        size = strcspn(child, "/");
        if (size == previous_size && memcmp(child, previous, size) == 0)
            continue;
        if (size > 15)
            die("a long name in xenstore");
        names[(*number)++] = memcpy(text, child, size);
        text[size] = 0;
        text += size + 1;
        previous = child;
        previous_size = size;
    }
    if (*number)
        return names;
    free(names);
    errno = ENOENT;
    return NULL;
}

/* --- the clock, where this is preloaded ------------------------------------------------------------------- */

/* For the thread that polls time stands still, but for a second at each poll: CPU(%) is then exact. */
int clock_gettime(clockid_t clock, struct timespec *time)
{
    static struct timespec starts[2];
    struct timespec *start = &starts[clock == CLOCK_MONOTONIC];

    if (!is_polling || (clock != CLOCK_MONOTONIC && clock != CLOCK_REALTIME))
        return syscall(SYS_clock_gettime, clock, time);
    if (!start->tv_sec && syscall(SYS_clock_gettime, clock, start))
        return -1;
    *time = *start;
    time->tv_sec += polls;
    return 0;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
    struct timespec now;

    if (clock_gettime(CLOCK_REALTIME, &now))
        return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}
