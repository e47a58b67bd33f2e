package host

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// As calls do where its thread's effective user and group are the owner's, and returns when it has returned: a server takes a
// local socket that do opens for that user's (SO_PEERCRED of unix(7) is what the thread was at the time of connect). Goroutines
// that do starts are not the owner. Where this process is not root, or the owner is, do is only called.
func As(o Owner, do func() error) error {
	if os.Geteuid() != 0 || o.UID == 0 {
		return do()
	}
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its goroutine, and nobody else gets it as it is
		ended <- asOwner(o, do)
	}()
	return <-ended
}

// asOwner changes this thread alone; the calls of package syscall change all threads of the process.
func asOwner(o Owner, do func() error) error {
	const keep = ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, keep, uintptr(o.GID), keep); errno != 0 {
		return fmt.Errorf("be in the group of user %q: %w", o.Name, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(o.UID), keep); errno != 0 {
		return fmt.Errorf("be user %q: %w", o.Name, errno)
	}
	return do()
}
