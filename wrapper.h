#include <xenstat.h>
