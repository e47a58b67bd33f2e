// Package steps applies a plan: it binds each action to the world, and does it by check, act, verify.
//
// A step first asks whether the world is already as it would leave it (Done), then re-reads the conditions that the plan
// attached to it (Requires), then runs, then asks Done again: only a second yes is success. So every step is safe to kill
// before, during and after any call; a later apply looks again, plans again and goes on, and nothing is replayed.
//
// Apply does less than or exactly the plan, never more and never other. It decides nothing: a step that needs approval
// and has none waits, a condition that no longer holds stops the step, a failed step skips those that come after it.
// Steps of different servers run side by side; those of one server run in the plan's order.
//
// Two applies may meet. Every step works under a lock of its own, taken without a wait unless one is asked for and held
// only while it runs; nobody waits for one lock with another in hand. A step that finds its lock taken is left for the
// end: when all else is done it is tried again, with what comes after it, and so on until a whole round gains nothing. In
// that last round an apply holds no lock. So where two keep each other from different steps (two repositories to be
// created: each has one), not both give up: whoever begins its last round later finds what the other one did done
// already, and ends as if it had done all. A plan that still meets a lock then tells who has it, and the exit code is 6.
//
// What a step touches, it touches through the small interfaces of this package (Server, Cluster, Receivers …). Bind makes
// the real ones from a configuration; tests wrap them to kill an apply before and after every single call.
package steps
