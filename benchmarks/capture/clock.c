/* Step the clock of a program that draws by OpenGL under X11, and read its frames back.

   LD_PRELOAD this. It works with GLX and EGL. From the first swap of buffers on, time advances by 1/CAPTURE_FPS per swap, however long drawing
   takes. Frames CAPTURE_SKIP to CAPTURE_SKIP + CAPTURE_FRAMES - 1 go to the file CAPTURE_PIPE: width and height as
   int32, then RGBA rows, bottom row first. The program ends after the last one.

   The thread that swaps is the one that is timed. It never really sleeps: a sleep moves the clock. Reading the clock
   moves it by READ_NS, so that a loop that waits for a time ends. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define READ_NS 2000
enum { GL_RGBA = 0x1908, GL_UNSIGNED_BYTE = 0x1401, GL_PACK_ALIGNMENT = 0x0D05, GL_PACK_ROW_LENGTH = 0x0D02 };
enum { GL_PIXEL_PACK_BUFFER = 0x88EB, GL_PIXEL_PACK_BUFFER_BINDING = 0x88ED, GL_READ_BUFFER = 0x0C02, GL_BACK = 0x0405 };
enum { GL_READ_FRAMEBUFFER = 0x8CA8, GL_READ_FRAMEBUFFER_BINDING = 0x8CAA, GLX_WIDTH = 0x801D, GLX_HEIGHT = 0x801E };
enum { EGL_WIDTH = 0x3057, EGL_HEIGHT = 0x3056 };

static int64_t origin_ns[8], elapsed_ns, swaps;  /* time since the first swap; how many there were */
static pthread_t drawing_thread;

static void *next(const char *name) {
    static void *(*real)(void *, const char *);
    if (!real) real = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
    return real(RTLD_NEXT, name);
}

static void *of(const char *file, const char *name) {
    static void *(*real)(void *, const char *);
    if (!real) real = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
    return real(dlopen(file, RTLD_NOW | RTLD_GLOBAL), name);
}

static void *gl(const char *name) { return of("libGL.so.1", name); }
static void *egl(const char *name) { return of("libEGL.so.1", name); }

static int64_t real_ns(clockid_t id) {
    struct timespec t;
    syscall(SYS_clock_gettime, id, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

static int is_drawing(void) { return swaps && pthread_equal(pthread_self(), drawing_thread); }

static int is_stepped(clockid_t id) {
    return swaps && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE || id == CLOCK_BOOTTIME ||
                     id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_RAW || id == CLOCK_MONOTONIC_COARSE);
}

static int64_t now_ns(clockid_t id) {
    if (!is_stepped(id)) return real_ns(id);
    if (is_drawing()) elapsed_ns += READ_NS;
    return origin_ns[id] + elapsed_ns;
}

static void split(int64_t ns, struct timespec *t) { t->tv_sec = ns / SECOND; t->tv_nsec = ns % SECOND; }

int clock_gettime(clockid_t id, struct timespec *t) { split(now_ns(id), t); return 0; }

int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    int64_t ns = now_ns(CLOCK_REALTIME);
    (void)zone;
    t->tv_sec = ns / SECOND, t->tv_usec = ns % SECOND / 1000;
    return 0;
}

time_t time(time_t *t) {
    time_t seconds = now_ns(CLOCK_REALTIME) / SECOND;
    if (t) *t = seconds;
    return seconds;
}

int nanosleep(const struct timespec *t, struct timespec *rest) {
    if (!is_drawing()) return syscall(SYS_nanosleep, t, rest);
    elapsed_ns += t->tv_sec * SECOND + t->tv_nsec;
    return 0;
}

int clock_nanosleep(clockid_t id, int flags, const struct timespec *t, struct timespec *rest) {
    if (!is_drawing()) return syscall(SYS_clock_nanosleep, id, flags, t, rest) ? 4 : 0;
    int64_t ns = t->tv_sec * SECOND + t->tv_nsec;
    if (flags & TIMER_ABSTIME) ns -= now_ns(id);
    if (ns > 0) elapsed_ns += ns;
    return 0;
}

int usleep(useconds_t us) {
    struct timespec t = {us / 1000000, us % 1000000 * 1000};
    return nanosleep(&t, NULL);
}

int select(int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *t) {
    static int (*real)(int, fd_set *, fd_set *, fd_set *, struct timeval *);
    if (!real) real = next("select");
    if (!is_drawing() || !t) return real(n, r, w, e, t);
    struct timeval none = {0, 0};
    int ready = real(n, r, w, e, &none);
    if (!ready) elapsed_ns += t->tv_sec * SECOND + t->tv_usec * 1000;
    return ready;
}

int poll(struct pollfd *files, nfds_t n, int ms) {
    static int (*real)(struct pollfd *, nfds_t, int);
    if (!real) real = next("poll");
    if (!is_drawing() || ms < 0) return real(files, n, ms);
    int ready = real(files, n, 0);
    if (!ready) elapsed_ns += ms * 1000000LL;
    return ready;
}

static void send(FILE *pipe, unsigned width, unsigned height) {
    void (*get)(unsigned, int *) = gl("glGetIntegerv"), (*bind)(unsigned, unsigned) = gl("glBindBuffer");
    void (*store)(unsigned, int) = gl("glPixelStorei"), (*read_from)(unsigned) = gl("glReadBuffer");
    void (*framebuffer)(unsigned, unsigned) = gl("glBindFramebuffer");
    void (*pixels)(int, int, int, int, unsigned, unsigned, void *) = gl("glReadPixels");
    int buffer = 0, source = GL_BACK, target = 0, alignment = 4, length = 0;
    get(GL_PIXEL_PACK_BUFFER_BINDING, &buffer), get(GL_READ_FRAMEBUFFER_BINDING, &target);
    get(GL_PACK_ALIGNMENT, &alignment), get(GL_PACK_ROW_LENGTH, &length);
    if (buffer) bind(GL_PIXEL_PACK_BUFFER, 0);
    if (target) framebuffer(GL_READ_FRAMEBUFFER, 0);
    get(GL_READ_BUFFER, &source);
    read_from(GL_BACK), store(GL_PACK_ALIGNMENT, 4), store(GL_PACK_ROW_LENGTH, 0);
    int32_t size[2] = {width, height};
    char *frame = malloc(4UL * width * height);
    pixels(0, 0, width, height, GL_RGBA, GL_UNSIGNED_BYTE, frame);
    fwrite(size, sizeof size, 1, pipe), fwrite(frame, 4UL * width, height, pipe), fflush(pipe);
    free(frame);
    read_from(source), store(GL_PACK_ALIGNMENT, alignment), store(GL_PACK_ROW_LENGTH, length);
    if (target) framebuffer(GL_READ_FRAMEBUFFER, target);
    if (buffer) bind(GL_PIXEL_PACK_BUFFER, buffer);
}

/* Before a swap: send the frame, or its number alone. */
static void before_swap(int width, int height) {
    static FILE *pipe;
    if (!swaps) {
        drawing_thread = pthread_self();
        for (int id = 0; id < 8; id++) origin_ns[id] = real_ns(id);
    }
    if (!pipe) pipe = fopen(getenv("CAPTURE_PIPE"), "wb");
    if (swaps >= atoll(getenv("CAPTURE_SKIP"))) {
        send(pipe, width, height);
    } else {
        int32_t none[2] = {0, 0};
        fwrite(none, sizeof none, 1, pipe), fflush(pipe);
    }
}

static void after_swap(void) {
    swaps++;
    if (swaps >= atoll(getenv("CAPTURE_SKIP")) + atoll(getenv("CAPTURE_FRAMES"))) _exit(0);
    int64_t due = swaps * SECOND / atoll(getenv("CAPTURE_FPS"));
    if (elapsed_ns < due) elapsed_ns = due;
}

void glXSwapBuffers(void *display, unsigned long drawable) {
    void (*real)(void *, unsigned long) = gl("glXSwapBuffers");
    void (*query)(void *, unsigned long, int, unsigned *) = gl("glXQueryDrawable");
    unsigned width = 0, height = 0;
    query(display, drawable, GLX_WIDTH, &width), query(display, drawable, GLX_HEIGHT, &height);
    before_swap(width, height);
    real(display, drawable);
    after_swap();
}

unsigned eglSwapBuffers(void *display, void *surface) {
    unsigned (*real)(void *, void *) = egl("eglSwapBuffers");
    unsigned (*query)(void *, void *, int, int *) = egl("eglQuerySurface");
    int width = 0, height = 0;
    query(display, surface, EGL_WIDTH, &width), query(display, surface, EGL_HEIGHT, &height);
    before_swap(width, height);
    unsigned done = real(display, surface);
    after_swap();
    return done;
}

/* Programs that look these up get ours. */
typedef void (*function)(void);
function glXGetProcAddress(const unsigned char *name);
function glXGetProcAddressARB(const unsigned char *name);
function eglGetProcAddress(const char *name);

static function own(const char *name) {
    struct { const char *name; function address; } table[] = {
        {"glXSwapBuffers", (function)glXSwapBuffers},       {"eglSwapBuffers", (function)eglSwapBuffers},
        {"glXGetProcAddress", (function)glXGetProcAddress}, {"glXGetProcAddressARB", (function)glXGetProcAddressARB},
        {"eglGetProcAddress", (function)eglGetProcAddress},
    };
    for (unsigned i = 0; i < sizeof table / sizeof *table; i++)
        if (!strcmp(name, table[i].name)) return table[i].address;
    return NULL;
}

function glXGetProcAddress(const unsigned char *name) {
    function (*real)(const unsigned char *) = gl("glXGetProcAddress");
    function address = own((const char *)name);
    return address ? address : real(name);
}

function glXGetProcAddressARB(const unsigned char *name) { return glXGetProcAddress(name); }

function eglGetProcAddress(const char *name) {
    function (*real)(const char *) = egl("eglGetProcAddress");
    function address = own(name);
    return address ? address : real(name);
}

void *dlsym(void *restrict library, const char *restrict name) {
    static void *(*real)(void *, const char *);
    if (!real) real = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
    function address = own(name);
    return address ? (void *)address : real(library, name);
}
