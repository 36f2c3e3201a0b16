/* SPDX-License-Identifier: Apache-2.0 */
/* ChaCha20's twenty rounds (RFC 8439 section 2.3) on 32-bit BPF registers.
 *
 * bcc's compiler emits 64-bit arithmetic only, which costs a shift pair for every addition and rotation. The assembler
 * does know the 32-bit registers, but takes neither register constraints nor clobbers, hence: ten outputs occupy
 * r0 to r9, so that all of them may be named here; one of them is tied to the only input. Jumps are numeric, since a
 * label would be defined twice once this is inlined twice.
 *
 * w0 to w7 hold two quarter rounds, interleaved, w8 is scratch, r9 the factor that rotates by 16. Of sixteen state words
 * eight fit, so the order of the pairs keeps four words in place between columns and diagonals. The state is addressed
 * through memory operands, which the compiler turns into frame pointer and offset: no register is left for a base, and
 * a program that could not have it so would not compile. The twin in C, which the tests compare with this, is
 * veil_chacha20_rounds_c in chacha20.h.
 *
 * The key block and an odd last block go one at a time, everything else two at a time. There rotations by multiplication
 * (two instructions of three cycles and one, no scratch register) win, since the other block's work hides their latency;
 * for one block they lose. Measured per block: 154 to 165 ns alone, 137 in a pair.
 */
#ifndef VEIL_CHACHA20_ASM_H
#define VEIL_CHACHA20_ASM_H

#define VEIL_LD(r, i) "w" #r " = *(u32 *)%[x" #i "]\n"
#define VEIL_ST(r, i) "*(u32 *)%[x" #i "] = w" #r "\n"

/* a += b, d ^= a, d <<<= n (m = 32 - n): six instructions */
#define VEIL_STEP(a, b, d, n, m)                                                              \
	"w" #a " += w" #b "\n"                                                                \
	"w" #d " ^= w" #a "\n"                                                                \
	"w8 = w" #d "\n"                                                                      \
	"w" #d " <<= " #n "\n"                                                                \
	"w8 >>= " #m "\n"                                                                     \
	"w" #d " |= w8\n"

/* The same for n = 16: d * (2^32 + 1) holds d twice. Four instructions; the multiplier and the two shifters of a core
 * share the load best when one rotation in four goes this way. What stays in the upper half is never read. */
#define VEIL_STEP16(a, b, d)                                                                  \
	"w" #a " += w" #b "\n"                                                                \
	"w" #d " ^= w" #a "\n"                                                                \
	"r" #d " *= r9\n"                                                                     \
	"r" #d " >>= 16\n"

/* two quarter rounds: 44 instructions */
#define VEIL_QR2(a, b, c, d, A, B, C, D)                                                      \
	VEIL_STEP16(a, b, d) VEIL_STEP16(A, B, D)                                             \
	VEIL_STEP(c, d, b, 12, 20) VEIL_STEP(C, D, B, 12, 20)                                 \
	VEIL_STEP(a, b, d, 8, 24) VEIL_STEP(A, B, D, 8, 24)                                   \
	VEIL_STEP(c, d, b, 7, 25) VEIL_STEP(C, D, B, 7, 25)

/* Words: a is 0 to 3, b 4 to 7, c 8 to 11, d 12 to 15. On entry and at the end of each turn w0, w3, w4, w5 hold words
 * 0, 12, 1, 5; the others are in memory. A turn is 228 instructions. */
#define VEIL_DOUBLE_ROUND                                                                     \
	VEIL_LD(1, 4) VEIL_LD(2, 8) VEIL_LD(6, 9) VEIL_LD(7, 13)                              \
	VEIL_QR2(0, 1, 2, 3, 4, 5, 6, 7) /* columns 0, 1 */                                   \
	VEIL_ST(0, 0) VEIL_ST(1, 4) VEIL_ST(2, 8) VEIL_ST(3, 12)                              \
	VEIL_ST(4, 1) VEIL_ST(5, 5) VEIL_ST(6, 9) VEIL_ST(7, 13)                              \
	VEIL_LD(0, 2) VEIL_LD(1, 6) VEIL_LD(2, 10) VEIL_LD(3, 14)                             \
	VEIL_LD(4, 3) VEIL_LD(5, 7) VEIL_LD(6, 11) VEIL_LD(7, 15)                             \
	VEIL_QR2(0, 1, 2, 3, 4, 5, 6, 7) /* columns 2, 3 */                                   \
	VEIL_ST(1, 6) VEIL_ST(2, 10) VEIL_ST(6, 11) VEIL_ST(7, 15)                            \
	VEIL_LD(1, 4) VEIL_LD(2, 8) VEIL_LD(6, 9) VEIL_LD(7, 13)                              \
	VEIL_QR2(0, 5, 2, 7, 4, 1, 6, 3) /* diagonals 2, 3: words 2 7 8 13, 3 4 9 14 */       \
	VEIL_ST(0, 2) VEIL_ST(5, 7) VEIL_ST(2, 8) VEIL_ST(7, 13)                              \
	VEIL_ST(4, 3) VEIL_ST(1, 4) VEIL_ST(6, 9) VEIL_ST(3, 14)                              \
	VEIL_LD(0, 0) VEIL_LD(5, 5) VEIL_LD(2, 10) VEIL_LD(7, 15)                             \
	VEIL_LD(4, 1) VEIL_LD(1, 6) VEIL_LD(6, 11) VEIL_LD(3, 12)                             \
	VEIL_QR2(0, 5, 2, 7, 4, 1, 6, 3) /* diagonals 0, 1: words 0 5 10 15, 1 6 11 12 */     \
	VEIL_ST(2, 10) VEIL_ST(7, 15) VEIL_ST(1, 6) VEIL_ST(6, 11)                            \
	"r8 = *(u64 *)%[turns]\n"                                                            \
	"r8 += -1\n"                                                                          \
	"*(u64 *)%[turns] = r8\n"

/* ---- two blocks at once ---- */

/* a += b, d ^= a, d <<<= n (m = 32 - n), by multiplication: four instructions and no scratch register */
#define VEIL_STEPM(a, b, d, m)                                                                \
	"w" #a " += w" #b "\n"                                                                \
	"w" #d " ^= w" #a "\n"                                                                \
	"r" #d " *= r9\n"                                                                     \
	"r" #d " >>= " #m "\n"

/* Two quarter rounds on words a b c d and A B C D from memory and back: 48 instructions. */
#define VEIL_QR2M(a, b, c, d, A, B, C, D)                                                     \
	VEIL_LD(0, a) VEIL_LD(1, b) VEIL_LD(2, c) VEIL_LD(3, d)                               \
	VEIL_LD(4, A) VEIL_LD(5, B) VEIL_LD(6, C) VEIL_LD(7, D)                               \
	VEIL_STEPM(0, 1, 3, 16) VEIL_STEPM(4, 5, 7, 16)                                       \
	VEIL_STEPM(2, 3, 1, 20) VEIL_STEPM(6, 7, 5, 20)                                       \
	VEIL_STEPM(0, 1, 3, 24) VEIL_STEPM(4, 5, 7, 24)                                       \
	VEIL_STEPM(2, 3, 1, 25) VEIL_STEPM(6, 7, 5, 25)                                       \
	VEIL_ST(0, a) VEIL_ST(1, b) VEIL_ST(2, c) VEIL_ST(3, d)                               \
	VEIL_ST(4, A) VEIL_ST(5, B) VEIL_ST(6, C) VEIL_ST(7, D)

/* One round of one block waits for the one before; the other block's fills the time. A turn is 388 instructions. */
#define VEIL_DOUBLE_ROUND2                                                                    \
	VEIL_QR2M(0, 4, 8, 12, 1, 5, 9, 13) VEIL_QR2M(2, 6, 10, 14, 3, 7, 11, 15)             \
	VEIL_QR2M(16, 20, 24, 28, 17, 21, 25, 29) VEIL_QR2M(18, 22, 26, 30, 19, 23, 27, 31)   \
	VEIL_QR2M(0, 5, 10, 15, 1, 6, 11, 12) VEIL_QR2M(2, 7, 8, 13, 3, 4, 9, 14)             \
	VEIL_QR2M(16, 21, 26, 31, 17, 22, 27, 28) VEIL_QR2M(18, 23, 24, 29, 19, 20, 25, 30)   \
	"r8 = *(u64 *)%[turns]\n"                                                             \
	"r8 += -1\n"                                                                          \
	"*(u64 *)%[turns] = r8\n"

#define VEIL_X(i) [x##i] "m"(x[i])

/* `x`: the state, on the stack. `turns`: a counter beside it. */
static __always_inline void veil_chacha20_rounds_asm(__u32 *x, __u64 *turns)
{
	__u64 t0, t1, t2, t3, t4, t5, t6, t7, t8, t9;

	asm volatile("r9 = 0x100000001 ll\n"
		     VEIL_LD(0, 0) VEIL_LD(3, 12) VEIL_LD(4, 1) VEIL_LD(5, 5)
		     VEIL_DOUBLE_ROUND
		     "if r8 != 0 goto -228\n"
		     VEIL_ST(0, 0) VEIL_ST(3, 12) VEIL_ST(4, 1) VEIL_ST(5, 5)
		     : "=&r"(t0), "=&r"(t1), "=&r"(t2), "=&r"(t3), "=&r"(t4), "=&r"(t5), "=&r"(t6), "=&r"(t7),
		       "=&r"(t8), "=&r"(t9)
		     : VEIL_X(0), VEIL_X(1), VEIL_X(2), VEIL_X(3), VEIL_X(4), VEIL_X(5), VEIL_X(6), VEIL_X(7),
		       VEIL_X(8), VEIL_X(9), VEIL_X(10), VEIL_X(11), VEIL_X(12), VEIL_X(13), VEIL_X(14), VEIL_X(15),
		       [turns] "m"(*turns)
		     : "memory");
}

/* `x`: the states of two blocks, one behind the other, on the stack. */
static __always_inline void veil_chacha20_rounds2_asm(__u32 *x, __u64 *turns)
{
	__u64 t0, t1, t2, t3, t4, t5, t6, t7, t8, t9;

	asm volatile("r9 = 0x100000001 ll\n"
		     VEIL_DOUBLE_ROUND2
		     "if r8 != 0 goto -388\n"
		     : "=&r"(t0), "=&r"(t1), "=&r"(t2), "=&r"(t3), "=&r"(t4), "=&r"(t5), "=&r"(t6), "=&r"(t7),
		       "=&r"(t8), "=&r"(t9)
		     : VEIL_X(0), VEIL_X(1), VEIL_X(2), VEIL_X(3), VEIL_X(4), VEIL_X(5), VEIL_X(6), VEIL_X(7),
		       VEIL_X(8), VEIL_X(9), VEIL_X(10), VEIL_X(11), VEIL_X(12), VEIL_X(13), VEIL_X(14), VEIL_X(15),
		       VEIL_X(16), VEIL_X(17), VEIL_X(18), VEIL_X(19), VEIL_X(20), VEIL_X(21), VEIL_X(22), VEIL_X(23),
		       VEIL_X(24), VEIL_X(25), VEIL_X(26), VEIL_X(27), VEIL_X(28), VEIL_X(29), VEIL_X(30), VEIL_X(31),
		       [turns] "m"(*turns)
		     : "memory");
}

#endif
