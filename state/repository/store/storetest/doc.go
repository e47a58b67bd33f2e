// Package storetest holds what every driver must pass (Run), and two stores for tests of what stands above: Memory, fast
// and with a clock of its own, and Faulty, which fails at the call that a test names.
package storetest
