/* SPDX-License-Identifier: Apache-2.0
 *
 * What happens to a frame: pure functions, no clock, no I/O. veilnet/lab/wire/model.py is the same in Python; the tests
 * compare both frame by frame.
 *
 * Every frame takes the same ten 32-bit draws whatever the parameters are and whatever becomes of it, so that a seed
 * gives the same fate to frame n however fast frames come.
 */
#ifndef VEILNET_WIRE_DECIDE_H
#define VEILNET_WIRE_DECIDE_H

#include <stdbool.h>
#include <stdint.h>

#define DRAWS 10
#define TABLE_SIZE 4096
#define TABLE_SHIFT 13 /* a table entry of 1 << 13 is one jitter above the mean */

/* xoshiro256** 1.0, Blackman and Vigna 2018, https://prng.di.unimi.it/ */
struct rng {
	uint64_t s[4];
};

static inline uint64_t rotl(uint64_t x, int k)
{
	return (x << k) | (x >> (64 - k));
}

static inline uint64_t rng_next(struct rng *rng)
{
	uint64_t *s = rng->s;
	uint64_t result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return result;
}

/* splitmix64, which xoshiro's authors give for filling its state from one word. */
static inline void rng_seed(struct rng *rng, uint64_t seed)
{
	for (int i = 0; i < 4; i++) {
		uint64_t z = seed += 0x9e3779b97f4a7c15;

		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
		z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
		rng->s[i] = z ^ (z >> 31);
	}
}

/* Probabilities are thresholds of 32-bit draws: 0 is never, 1 << 32 always. */
struct impairment {
	uint64_t delay_ns, jitter_ns;
	const int16_t *table; /* jitter's quantiles; none: uniform within delay +- jitter */
	uint64_t to_bad, to_good, loss_good, loss_bad; /* independent loss is a chain that stays good */
	uint64_t reorder, gap, duplicate;
	uint64_t rate; /* bytes per second, 0: none */
	uint64_t queue_ns, queue_frames;
	uint64_t mtu; /* bytes behind the Ethernet header, 0: no limit */
	uint64_t blackhole;
};

struct chance {
	struct rng rng;
	bool bad;
	uint64_t since_reorder;
};

struct copy {
	int64_t delay_ns;
	bool reordered;
};

enum drop { DROP_NONE, DROP_LOSS, DROP_MTU, DROP_BLACKHOLE, DROP_QUEUE, DROP_MEMORY, DROP_OVERSIZE, DROP_SEND, DROP_COUNT };

/* Lost as the state is before the move: a burst begins with the frame after the one that moved the chain. */
static inline bool is_lost(struct chance *c, const struct impairment *i, uint32_t move, uint32_t loss)
{
	bool lost = loss < (c->bad ? i->loss_bad : i->loss_good);

	if (move < (c->bad ? i->to_good : i->to_bad))
		c->bad = !c->bad;
	return lost;
}

static inline int64_t jittered(const struct impairment *i, uint32_t draw)
{
	int64_t delay = (int64_t)i->delay_ns, jitter = (int64_t)i->jitter_ns;

	if (i->table)
		return delay + ((jitter * i->table[draw >> 20]) >> TABLE_SHIFT);
	return delay - jitter + (int64_t)(((unsigned __int128)draw * 2 * i->jitter_ns) >> 32);
}

/* With gap g, g - 1 frames are delayed, then each is sent at once with probability `reorder` until one was. */
static inline struct copy travel(struct chance *c, const struct impairment *i, uint32_t reorder, uint32_t jitter)
{
	if (i->gap && c->since_reorder >= i->gap - 1 && reorder < i->reorder) {
		c->since_reorder = 0;
		return (struct copy){ .reordered = true };
	}
	c->since_reorder++;
	return (struct copy){ .delay_ns = jittered(i, jitter) };
}

/* Fate of the next frame, `length` bytes behind its Ethernet header. Fills `out` with the copies to send, in order;
 * returns their number, and counts a frame of which none is left in `dropped`. Duplication comes before loss, as in netem: a
 * duplicated frame loses one copy, and a second copy has chances of its own. */
static inline unsigned int decide(struct chance *c, const struct impairment *i, uint64_t length, struct copy out[2],
				  uint64_t dropped[DROP_COUNT])
{
	uint32_t draw[DRAWS];
	unsigned int copies = 0;

	for (int n = 0; n < DRAWS; n += 2) {
		uint64_t word = rng_next(&c->rng);

		draw[n] = (uint32_t)(word >> 32);
		draw[n + 1] = (uint32_t)word;
	}
	bool twice = draw[0] < i->duplicate, lost = is_lost(c, i, draw[1], draw[2]);

	if (i->blackhole || (i->mtu && length > i->mtu)) {
		dropped[i->blackhole ? DROP_BLACKHOLE : DROP_MTU]++;
		return 0;
	}
	if (lost && !twice) {
		dropped[DROP_LOSS]++;
		return 0;
	}
	if (twice && !lost && !is_lost(c, i, draw[5], draw[6]))
		out[copies++] = travel(c, i, draw[7], draw[8]);
	out[copies++] = travel(c, i, draw[3], draw[4]);
	return copies;
}

#endif
