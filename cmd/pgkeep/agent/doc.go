// Package agent is the loop around the planner: observe, plan, apply what may run without a name, and wait for the next
// due time, the resync interval, a receiver's end or SIGHUP. It keeps the receivers of this machine as goroutines of its
// own. It decides nothing (plan does) and speaks neither SQL nor storage (observe and steps do).
package agent
