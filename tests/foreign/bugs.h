/* SPDX-License-Identifier: BSD-2-Clause
 *
 * BUG(n) is 1 in a program that is compiled with -DBUG_n, else 0: bugs that netfronts and netbacks
 * had in the field, one at a time (bugs.toml). */
#ifndef BUGS_H
#define BUGS_H

#define BUG(n) BUG_DEFINED(BUG_##n)
#define BUG_DEFINED(value) BUG_DEFINED_AS(value)
#define BUG_DEFINED_AS(value) BUG_PICK(BUG_COMMA_##value)
#define BUG_PICK(comma) BUG_SECOND(comma 1, 0, )
#define BUG_SECOND(first, second, ...) second
#define BUG_COMMA_1 0,

#endif
