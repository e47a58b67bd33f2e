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
// What a step touches, it touches through the small interfaces of this package (Server, Cluster, Receivers …). Bind makes
// the real ones from a configuration; tests wrap them to kill an apply before and after every single call.
package steps
