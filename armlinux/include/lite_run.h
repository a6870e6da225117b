/* lite_run: runs the bundles of paddle-edge on Paddle Lite. C99; the only public header.
 *
 *   lr_session* session = NULL;
 *   if (lr_open("cat.bundle", 4, LR_POWER_NO_BIND, &session) != LR_OK ||
 *       lr_set_file(session, 0, "cat.jpg") != LR_OK || lr_run(session) != LR_OK) {
 *     fprintf(stderr, "%s\n", lr_error());
 *   } else {
 *     const void* data;
 *     const char* dtype;
 *     const int64_t* shape;
 *     int rank;
 *     lr_output(session, 0, &data, &dtype, &shape, &rank);
 *   }
 *   lr_close(&session);
 *
 * Results. Functions that can fail return a status; it equals the exit code of the command
 *   `lite_run` for the same fault. What they return through pointers is written on success only.
 * Errors. After a status other than LR_OK, lr_error() of the same thread says in one line what,
 *   which file, and what to do.
 * Ownership. The caller owns what it passes in, and may free it as soon as the call returns. What
 *   the library returns stays its own: names, shapes and JSON texts of a session live until
 *   lr_close, unless their function says less.
 * Threads. A session is used by one thread at a time, not always by the same one. Sessions are
 *   independent: several may be used by as many threads at once. An OpenMP engine counts threads
 *   by caller: on x86 the number given to lr_open is set in the thread that calls lr_run.
 * Aborts. Everything that can be known of a file is checked before Paddle Lite sees it: existence,
 *   size, checksum, target, versions, this CPU's features, memory. Paddle Lite ends the process
 *   (SIGABRT, SIGSEGV) on what is left, such as an operator that the library at hand was built
 *   without. A caller that must survive this works in a process of its own.
 * Logs. Paddle Lite writes its log to standard error. The library itself prints nothing.
 * Text. All strings are UTF-8 and end with a zero byte. JSON texts are one object; keys may be
 *   added later.
 */
#ifndef LITE_RUN_H_
#define LITE_RUN_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LR_API __attribute__((visibility("default")))

/* A bundle, opened on this machine's engine, and the record of what it answered. */
typedef struct lr_session lr_session;

/* Statuses. */
enum {
  LR_OK = 0,
  LR_FAILED = 1, /* lr_check: the answers are not within the limits */
  LR_USAGE = 2,  /* the call is wrong */
  LR_FAULT = 3   /* a file, the machine or the engine is at fault */
};

/* Which cores an ARM engine uses. The numbers are Paddle Lite's; x86 engines ignore them. */
enum {
  LR_POWER_HIGH = 0,      /* bind to the big cores */
  LR_POWER_LOW = 1,       /* bind to the little cores */
  LR_POWER_FULL = 2,      /* bind to all cores */
  LR_POWER_NO_BIND = 3,   /* leave it to the kernel: the default of the command */
  LR_POWER_RAND_HIGH = 4, /* bind to some of the big cores */
  LR_POWER_RAND_LOW = 5   /* bind to some of the little cores */
};

/* Which tensors lr_count and lr_spec speak of. */
enum { LR_INPUT = 0, LR_OUTPUT = 1 };

/* Why the last call of this thread failed; "" if none has. Valid until the next failure of this
 * thread. Never NULL. */
LR_API const char* lr_error(void);

/* Open a bundle: check its files, then load the model of this CPU's target into the engine.
 *
 * bundle      folder of a bundle
 * threads     CPU threads of the engine, 1 to 256
 * power_mode  one of LR_POWER_...
 *
 * LR_USAGE for wrong arguments, and for a bundle without a model for this CPU. LR_FAULT for files
 * that are missing, damaged or lead out of the bundle, for a library too old for the model, for
 * kernels this CPU lacks, and where the model does not fit into the memory that is free. */
LR_API int lr_open(const char* bundle, int threads, int power_mode, lr_session** session);

/* Release everything and set *session to NULL. NULL, and a session that is NULL, are fine:
 * closing twice does no harm. */
LR_API void lr_close(lr_session** session);

/* What was opened, as JSON; with NULL for a session, the library alone: {"lite_run": "0.1.0"}.
 * Of a session also: "engine" (Paddle Lite's version), "opt_version" (of the optimizer that wrote
 * the model), "name" and "sha256" of the bundle, "precision" (its recipe), "target", "file",
 * "threads", "machine", "cpu" (as lr_cpu), "device", "labels" (their number), "image" (whether
 * lr_set_image works), "samples" (how many the bundle holds), "estimated_memory_bytes", and
 * "warnings", a list of sentences. Never NULL for a session that is open. */
LR_API const char* lr_info(const lr_session* session);

/* This machine's CPU, and what the engine takes it for, as JSON: "parts" (numbers of
 * /proc/cpuinfo), "mhz" (the highest frequency of each core), "features" ("dot product", "fp16":
 * what the kernel says it has), "engine_features" (by which the engine chooses its kernels),
 * "shown" (the parts that the engine was shown in the place of those, [] where it read the file
 * itself) and "why".
 *
 * Paddle Lite does not know the parts of newer CPUs, and leaves what they have unused. On ARM this
 * library therefore exports `fopen`: while it opens the engine, /proc/cpuinfo then holds parts that
 * have the same features. Never more: kernels of another CPU end with an illegal instruction. The
 * environment variable LR_CPU=off turns it off. It needs the loader to find this library before
 * the C library: it is so in a program that links it and in one that is started with LD_PRELOAD,
 * and not after a dlopen; "shown" says what came of it. The text lives as long as the process.
 * LR_USAGE for an LR_CPU that is neither "auto" nor "off". */
LR_API int lr_cpu(const char** cpu);

/* How many inputs (LR_INPUT) or outputs (LR_OUTPUT) the model has; -1 for wrong arguments. */
LR_API int lr_count(const lr_session* session, int side);

/* One input or output, as the bundle describes it.
 *
 * name   as the source model called it
 * dtype  NumPy's name: "float32", "int64" ...
 * shape  `rank` numbers; -1 is a dimension that the caller chooses
 *
 * Each pointer may be NULL where the caller does not ask. LR_USAGE for an index out of range. */
LR_API int lr_spec(const lr_session* session, int side, int index, const char** name,
                   const char** dtype, const int64_t** shape, int* rank);

/* Copy a tensor into an input. Every input has to be set before each run.
 *
 * dtype  has to be the input's
 * shape  `rank` numbers above 0 that fit the input's; nothing is converted or broadcast
 * data   the elements in C order, in this machine's byte order; no alignment is needed
 * bytes  their size, which has to agree with dtype and shape
 *
 * LR_USAGE for what does not fit. */
LR_API int lr_set_input(lr_session* session, int index, const char* dtype, const int64_t* shape,
                        int rank, const void* data, size_t bytes);

/* Set the input from decoded pixels, as the bundle's preprocessing says. The model has one input.
 *
 * pixels    8 bits a channel, rows from top to bottom
 * stride    bytes from one row to the next, at least width * channels
 * channels  3 for RGB, 4 for RGBA, whose alpha is ignored
 *
 * LR_USAGE where the bundle says nothing of images, LR_FAULT where the picture does not fit. */
LR_API int lr_set_image(lr_session* session, const uint8_t* pixels, int width, int height,
                        ptrdiff_t stride, int channels);

/* Set input `index` from a file, which is recognised by what it holds: a .npy array that fits as
 * lr_set_input demands (exactly the input's dtype and rank), or else a JPEG or PNG picture that
 * goes through the bundle's preprocessing. LR_FAULT where it is missing, damaged or does not fit,
 * LR_USAGE for anything but an array where the bundle says nothing of images. */
LR_API int lr_set_file(lr_session* session, int index, const char* path);

/* Run the model on the inputs that were set. LR_USAGE where one was not set since the last run. */
LR_API int lr_run(lr_session* session);

/* What the last run answered. `data` (C order), `dtype` and `shape` belong to the engine and are
 * valid until the next call of lr_set_..., lr_run, lr_record... or lr_close on this session. Each
 * pointer may be NULL where the caller does not ask. LR_USAGE before the first run and after an
 * input was set again. */
LR_API int lr_output(const lr_session* session, int index, const void** data, const char** dtype,
                     const int64_t** shape, int* rank);

/* The name of a class; NULL where the bundle has no such label. */
LR_API const char* lr_label(const lr_session* session, int64_t class_number);

/* Run the inputs that were set, timed, and keep the answer in the session's record.
 *
 * sample_id  unique in the record: the name of the sample
 * label      its class number, or -1 where unknown
 * warmup     runs before the measured ones, 0 to 10,000,000
 * repeat     measured runs, 1 to 10,000,000; the answer of the last one is kept, and lr_output
 *            gives it
 *
 * What is timed is what paddle-edge times on every engine: copy in, inference, copy out.
 * lr_output is valid afterwards as after lr_run. */
LR_API int lr_record(lr_session* session, const char* sample_id, int64_t label, int warmup,
                     int repeat);

/* Called by lr_record_samples after each sample, `done` of `total`; lr_output gives the answer to
 * it during the call. `user` is what was passed along. It may call lr_output and lr_label only.
 * 0 goes on to the next sample; any other value ends lr_record_samples, which then succeeds with
 * the samples so far. */
typedef int (*lr_progress)(void* user, const char* sample_id, int done, int total);

/* Add to the record the answers to samples on disk.
 *
 * path      NULL    the bundle's own samples
 *           folder  holds `samples.json`, a list of {"id": text, "label": number or null,
 *                   "sha256": hash of the tensors or null, "feeds": {input name: .npy file,
 *                   relative to the folder}}: what a bundle's manifest holds under "samples".
 *                   No file may lie outside
 *           .npy    the samples of a model with one input, stacked on axis 0; they are called
 *                   `name.npy[0]` and so on, as paddle-edge calls them
 * warmup    as in lr_record, before the first of these samples only
 * repeat    as in lr_record
 * progress  NULL, or called after each sample
 *
 * On failure the record is as it was before. */
LR_API int lr_record_samples(lr_session* session, const char* path, int warmup, int repeat,
                             lr_progress progress, void* user);

/* Empty the record. */
LR_API void lr_forget(lr_session* session);

/* Judge the record against what the server answered to the bundle's samples, by the limits of the
 * bundle's precision, as `paddle-edge compare` does. The self-check of a device:
 *
 *   status = lr_record_samples(session, NULL, 1, 1, NULL, NULL);
 *   if (status == LR_OK) status = lr_check(session, &report);
 *
 * LR_OK or LR_FAILED, and *report is JSON: "passed", "samples", "outputs" (per output: "name",
 * "kind", "max_abs_diff", "mean_abs_diff", "max_probability_diff", "cosine", "cosine_min",
 * "worst", "sqnr_db", "response", "not_finite"), "top1_agreement", "top5_agreement", "accuracy",
 * "disagreeing", "limits", "failures", "warnings", spelled and computed as in
 * lite_opt/judge/compare.py. LR_FAILED leaves the failures, joined, in lr_error(). The text is
 * valid until the next lr_check or lr_close. LR_USAGE where the record shares no sample with the
 * bundle's, LR_FAULT where the reference is missing or damaged. */
LR_API int lr_check(lr_session* session, const char** report);

/* The record without its arrays, as JSON: the `run.json` of a Run folder, with engine, device,
 * threads, "latency" (count, mean_ms, p50_ms, p90_ms, p99_ms, min_ms, max_ms, throughput_per_s),
 * "peak_memory_bytes" and the samples. Valid until the next lr_summary or lr_close. LR_USAGE where
 * nothing was recorded. */
LR_API int lr_summary(lr_session* session, const char** summary);

/* Write the record as a Run folder that `paddle-edge compare` reads, whole or not at all, and
 * empty the record. With `force` other than 0 a Run that is there already is replaced; any other
 * folder or file is left alone. LR_USAGE where `path` is taken or nothing was recorded. */
LR_API int lr_save_run(lr_session* session, const char* path, int force);

#ifdef __cplusplus
}
#endif

#endif /* LITE_RUN_H_ */
