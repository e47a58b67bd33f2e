package main

import (
	"os"
	"runtime"
)

// spareProcessors is how many more goroutines than there are CPUs may run in a process that receives WAL.
const spareProcessors = 4

// spare lets what streams WAL run beside what packs it. Go gives a goroutine that computes up to 10 ms before another one of the
// process has its turn, and those that compress segments take all the CPUs that a receiver has; the system's own scheduler, which
// then decides, prefers the one that mostly waits. A catch-up is durable in two thirds of the time, and archived in nine tenths (docs/performance.md).
// GOMAXPROCS in the environment outranks it.
func spare() {
	if n := runtime.GOMAXPROCS(0); os.Getenv("GOMAXPROCS") == "" && n <= runtime.NumCPU() {
		runtime.GOMAXPROCS(n + spareProcessors)
	}
}
