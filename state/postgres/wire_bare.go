package postgres

import (
	"errors"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// glanceFor is how long a glance waits in the kernel.
const glanceFor = 5 * time.Millisecond

// bare is the socket of a connection without TLS, for reads and writes past Go's network poller and its timers.
//
// Commits that wait for a synchronous standby send WAL every few hundred microseconds. Each wait of a goroutine in the poller then,
// and each deadline that is moved, stops and starts threads of the runtime, and costs more CPU than the fsync between: thousands
// of futex calls and timers a second, on the CPUs that the server wants (docs/performance.md). What does not come or go at once is left to
// the poller.
type bare struct {
	raw     syscall.RawConn
	yielded time.Time
}

// bareOf gives nil where conn is no socket itself.
func bareOf(conn any) *bare {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	return &bare{raw: raw}
}

// yield lets the runtime see, more often than every 10 ms, that the goroutine which reads is not one that computes without end: it
// takes the processor of such a one away in each of its system calls (Go 1.26, runtime.retake).
func (b *bare) yield() {
	if now := time.Now(); now.Sub(b.yielded) > glanceFor {
		runtime.Gosched()
		b.yielded = now
	}
}

// read takes what is there, or comes within glanceFor. It gives 0 where nothing does, and where the connection has ended: whoever
// asks the usual way is told.
func (b *bare) read(p []byte) (n int) {
	_ = b.raw.Control(func(fd uintptr) {
		k, err := unix.Read(int(fd), p)
		if errors.Is(err, unix.EAGAIN) && arrives(fd) {
			k, err = unix.Read(int(fd), p)
		}
		if err == nil {
			n = k
		}
	})
	return n
}

// write gives how many bytes went at once.
func (b *bare) write(p []byte) (n int) {
	_ = b.raw.Control(func(fd uintptr) {
		if k, err := unix.Write(int(fd), p); err == nil {
			n = k
		}
	})
	return n
}

// arrives tells whether something came within glanceFor; a signal may end the wait before.
func arrives(fd uintptr) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(glanceFor.Milliseconds()))
	return err == nil && n > 0
}

// glance lets ready find a message that comes at once, or nearly so. It reads once, so that bytes that dribble in cannot hold it.
func (w *wire) glance() {
	if w.bare == nil {
		return
	}
	w.bare.yield()
	w.makeRoom(min(max(w.length(), 1), maxMessage)) // next refuses what is longer
	k := w.bare.read(w.buf[w.w:])
	w.w += k
	w.got.Add(int64(k))
}
