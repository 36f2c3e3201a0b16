/* SPDX-License-Identifier: Apache-2.0
 *
 * The emulator's state, and frames between arrival and departure: heap, rate, queue, output batches.
 */
#ifndef VEILNET_WIRE_WIRE_H
#define VEILNET_WIRE_WIRE_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "decide.h"

#define NANO 1000000000ULL
#define BATCH 64
#define NAME_SIZE 64
#define SMALL_FRAME 2048 /* freed frames up to this size are kept for the next one */

enum source_kind { SOURCE_PORT, SOURCE_TIMER, SOURCE_SIGNAL, SOURCE_LISTEN, SOURCE_CLIENT };

/* First member of whatever epoll watches. */
struct source {
	enum source_kind kind;
	int fd;
};

struct frame {
	struct frame *next; /* in the free list */
	struct way *way;
	uint32_t length, size;
	uint8_t data[];
};

struct counters {
	uint64_t frames_in, bytes_in, frames_out, bytes_out, duplicated, reordered, overrun;
	uint64_t dropped[DROP_COUNT];
	uint64_t queued_frames, queued_bytes;
};

/* One direction of a wire. */
struct way {
	struct impairment impairment;
	struct chance chance;
	struct counters counters;
	struct port *out;
	uint64_t newest; /* arrival of the last frame */
	uint64_t rate_free; /* when the link has sent all that it was given */
	uint64_t *departures; /* of the last queue_frames frames, a ring */
	uint64_t departure;
	unsigned int batched;
	struct mmsghdr batch[BATCH];
	struct iovec parts[BATCH];
	struct frame *owners[BATCH];
};

struct port {
	struct source source;
	uint8_t *ring;
	size_t ring_size;
	uint32_t slots, slot_size, slot;
	struct way *way; /* what comes in here goes this way */
};

struct wire {
	struct wire *next;
	char name[NAME_SIZE];
	struct port ports[2];
	struct way ways[2]; /* ways[0] from ports[0] to ports[1] */
};

struct heap_item {
	uint64_t release, order; /* order: equal times leave as they came */
	struct frame *frame;
};

struct lab {
	struct wire *wires;
	struct heap_item *heap;
	size_t waiting, heap_size;
	uint64_t order, memory, memory_used;
	struct frame *free;
	int epoll, timer;
	bool stopping;
};

static struct lab lab;

static inline uint64_t clock_ns(clockid_t id)
{
	struct timespec at;

	clock_gettime(id, &at);
	return (uint64_t)at.tv_sec * NANO + (uint64_t)at.tv_nsec;
}

static inline int watch(int fd, void *source)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = source };

	return epoll_ctl(lab.epoll, EPOLL_CTL_ADD, fd, &event);
}

/* --- memory --- */

static inline struct frame *frame_copy(struct way *way, const uint8_t *data, uint32_t length)
{
	struct frame *frame = length <= SMALL_FRAME ? lab.free : NULL;
	uint32_t size = length <= SMALL_FRAME ? SMALL_FRAME : length;

	if (lab.memory_used + size > lab.memory)
		return NULL;
	if (frame)
		lab.free = frame->next;
	else
		frame = malloc(sizeof(*frame) + size);
	if (!frame)
		return NULL;
	frame->way = way;
	frame->length = length;
	frame->size = size;
	memcpy(frame->data, data, length);
	lab.memory_used += size;
	way->counters.queued_frames++;
	way->counters.queued_bytes += length;
	return frame;
}

static inline void frame_free(struct frame *frame)
{
	lab.memory_used -= frame->size;
	frame->way->counters.queued_frames--;
	frame->way->counters.queued_bytes -= frame->length;
	if (frame->size > SMALL_FRAME) {
		free(frame);
		return;
	}
	frame->next = lab.free;
	lab.free = frame;
}

/* --- heap of waiting frames, earliest first --- */

static inline bool before(const struct heap_item *a, const struct heap_item *b)
{
	return a->release < b->release || (a->release == b->release && a->order < b->order);
}

static inline void heap_sink(size_t at, struct heap_item item)
{
	for (;;) {
		size_t child = 2 * at + 1;

		if (child >= lab.waiting)
			break;
		if (child + 1 < lab.waiting && before(&lab.heap[child + 1], &lab.heap[child]))
			child++;
		if (!before(&lab.heap[child], &item))
			break;
		lab.heap[at] = lab.heap[child];
		at = child;
	}
	lab.heap[at] = item;
}

static inline bool heap_push(uint64_t release, struct frame *frame)
{
	struct heap_item item = { release, lab.order++, frame };
	size_t at = lab.waiting;

	if (at == lab.heap_size) {
		size_t size = at ? 2 * at : 1024;
		struct heap_item *grown = realloc(lab.heap, size * sizeof(*grown));

		if (!grown)
			return false;
		lab.heap = grown;
		lab.heap_size = size;
	}
	lab.waiting++;
	for (; at && before(&item, &lab.heap[(at - 1) / 2]); at = (at - 1) / 2)
		lab.heap[at] = lab.heap[(at - 1) / 2];
	lab.heap[at] = item;
	return true;
}

static inline struct frame *heap_pop(void)
{
	struct frame *frame = lab.heap[0].frame;
	struct heap_item last = lab.heap[--lab.waiting];

	if (lab.waiting)
		heap_sink(0, last);
	return frame;
}

/* Drops the waiting frames of a wire that goes. */
static inline void heap_forget(const struct wire *wire)
{
	size_t kept = 0, all = lab.waiting;

	for (size_t n = 0; n < all; n++) {
		struct heap_item item = lab.heap[n];

		if (item.frame->way == &wire->ways[0] || item.frame->way == &wire->ways[1])
			frame_free(item.frame);
		else
			lab.heap[kept++] = item;
	}
	lab.waiting = kept;
	for (size_t n = kept / 2; n-- > 0;)
		heap_sink(n, lab.heap[n]);
}

/* --- departure --- */

static inline void out_sent(struct way *way, unsigned int n, bool ok)
{
	struct counters *c = &way->counters;

	if (ok) {
		c->frames_out++;
		c->bytes_out += way->parts[n].iov_len;
	} else {
		c->dropped[DROP_SEND]++;
	}
	if (way->owners[n])
		frame_free(way->owners[n]);
}

/* Sends the batch. A frame that the device refuses (down, too long, no buffer) is counted and the rest goes on. */
static inline void out_flush(struct way *way)
{
	unsigned int done = 0;

	while (done < way->batched) {
		int sent = sendmmsg(way->out->source.fd, &way->batch[done], way->batched - done, MSG_DONTWAIT);

		if (sent <= 0) {
			if (errno != EINTR)
				out_sent(way, done++, false);
			continue;
		}
		for (int n = 0; n < sent; n++)
			out_sent(way, done++, true);
	}
	way->batched = 0;
}

/* `data` must stay until the flush; `owner`, freed then, may be NULL. */
static inline void out_add(struct way *way, uint8_t *data, uint32_t length, struct frame *owner)
{
	unsigned int n = way->batched;

	way->parts[n] = (struct iovec){ data, length };
	way->batch[n].msg_hdr = (struct msghdr){ .msg_iov = &way->parts[n], .msg_iovlen = 1 };
	way->owners[n] = owner;
	if (++way->batched == BATCH)
		out_flush(way);
}

/* --- rate and queue --- */

/* When a frame that reaches the bottleneck at `at` has left it; 0 when its queue is full. Delay comes first and the
 * rate behind it, as in netem, so that a rate undoes the reordering of jitter. */
static inline uint64_t serialise(struct way *way, uint64_t at, uint32_t length, bool ahead)
{
	const struct impairment *i = &way->impairment;
	uint64_t takes = length * NANO / i->rate;
	uint64_t start = way->rate_free > at ? way->rate_free : at;

	if (!ahead && i->queue_ns && start + takes - at > i->queue_ns)
		return 0;
	if (!ahead && i->queue_frames) {
		if (way->departures[way->departure] > at)
			return 0;
		way->departures[way->departure] = start + takes;
		way->departure = (way->departure + 1) % i->queue_frames;
	}
	way->rate_free = start + takes;
	return ahead ? at : start + takes;
}

/* One copy of a frame that arrived at `arrival`: out now when it is due, into the heap else. */
static inline void submit(struct way *way, const struct copy *copy, uint8_t *data, uint32_t length, uint64_t arrival,
			  uint64_t now)
{
	int64_t due = (int64_t)arrival + copy->delay_ns;
	uint64_t at = due > (int64_t)arrival ? (uint64_t)due : arrival;
	struct frame *frame;

	way->counters.reordered += copy->reordered;
	if (way->impairment.rate) {
		at = serialise(way, at, length, copy->reordered);
		if (!at) {
			way->counters.dropped[DROP_QUEUE]++;
			return;
		}
	}
	if (at <= now && (!lab.waiting || lab.heap[0].release > at)) { /* else one that waits is due before it */
		out_add(way, data, length, NULL);
		return;
	}
	frame = frame_copy(way, data, length);
	if (frame && heap_push(at, frame))
		return;
	if (frame)
		frame_free(frame);
	way->counters.dropped[DROP_MEMORY]++;
}

#endif
