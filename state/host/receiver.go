package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgkeep/pgkeep/state"
)

// Detached is a process that outlives the one that starts it.
type Detached struct {
	Program string   // absolute path
	Args    []string // without the program's name; never a secret
	Env     []string // never a secret: environments can be listed
	Input   []byte   // what it reads from its standard input: the place for secrets; nil: nothing
	Dir     string   // working directory; empty: /
	Log     string   // file that its output is appended to, created 0600
}

// StartDetached starts a process in a session of its own, so that neither the terminal's hang-up nor Ctrl-C reaches it,
// and gives its process id. It has no other open file than its log. It says nothing about whether the process does its
// work: look at what it holds.
func StartDetached(d Detached) (int, error) {
	if err := os.MkdirAll(filepath.Dir(d.Log), 0o700); err != nil {
		return 0, fmt.Errorf("create the directory of the log: %w", err)
	}
	log, err := os.OpenFile(d.Log, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return 0, fmt.Errorf("open the log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(d.Program, d.Args...)
	cmd.Dir = d.Dir
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	cmd.Env = append([]string{}, d.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	if d.Input != nil {
		input, err := inMemory(d.Input)
		if err != nil {
			return 0, err
		}
		defer input.Close()
		cmd.Stdin = input
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start %s: %w", d.Program, err)
	}
	pid := cmd.Process.Pid
	go func() { _ = cmd.Wait() }() // only so that it leaves no zombie while we live; its end is seen at its lock
	return pid, nil
}

// inMemory gives a file that has no name and never reaches a disk: the child reads it whenever it likes, and nobody waits.
func inMemory(content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("input", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make the input of a process: %w", err)
	}
	f := os.NewFile(uintptr(fd), "input")
	if _, err := f.Write(content); err != nil {
		f.Close()
		return nil, fmt.Errorf("write the input of a process: %w", err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		f.Close()
		return nil, fmt.Errorf("rewind the input of a process: %w", err)
	}
	return f, nil
}

// Stop asks the process pid to end, and waits until the lock at lockPath is free and the process has ended: it gives its
// lock back a moment before. Nobody holding the lock is success. When ctx ends first the process goes on ending by itself.
func Stop(ctx context.Context, pid int, lockPath string) error {
	process, err := unix.PidfdOpen(pid, 0) // before it is asked, so that the id is not another's yet
	if err == nil {
		defer unix.Close(process)
	}
	held, signalErr := Signal(pid, lockPath, unix.SIGTERM)
	if signalErr != nil || !held {
		return signalErr
	}
	if signalErr = awaitFree(ctx, lockPath); signalErr != nil || err != nil {
		return signalErr
	}
	return awaitEnd(ctx, process, pid)
}

// awaitEnd waits for the end of the process that a pidfd stands for. One that nobody has reaped yet has ended.
func awaitEnd(ctx context.Context, process, pid int) error {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}, 20)
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait for process %d to end: %w", pid, err)
		case ctx.Err() != nil:
			return fmt.Errorf("wait for process %d to end: %w", pid, ctx.Err())
		}
	}
}

// Signal sends a signal to the process pid. It does so only while the lock at lockPath is held and that very process has
// the lock's file open: a process id is used again, a held lock is not. held is false when nobody holds the lock.
func Signal(pid int, lockPath string, s syscall.Signal) (held bool, err error) {
	process, err := os.FindProcess(pid) // a handle on this one process (pidfd), before its identity is checked
	if err != nil {
		return false, fmt.Errorf("find process %d: %w", pid, err)
	}
	defer process.Release()
	held, err = IsLocked(lockPath)
	if err != nil || !held {
		return false, err
	}
	if !hasOpen(pid, lockPath) {
		return true, &state.Error{
			Code: state.CodeLocked,
			Text: fmt.Sprintf("process %d does not hold the lock %s, which is held by another", pid, lockPath),
			Hint: "find its holder with: fuser " + lockPath,
		}
	}
	if err := process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return true, fmt.Errorf("send %s to process %d: %w", s, pid, err)
	}
	return true, nil
}

func awaitFree(ctx context.Context, lockPath string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		held, err := IsLocked(lockPath)
		if err != nil || !held {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the holder of %s to end: %w", lockPath, ctx.Err())
		case <-tick.C:
		}
	}
}

// hasOpen tells whether the process has the file open.
func hasOpen(pid int, path string) bool {
	want, err := os.Stat(path)
	if err != nil {
		return false
	}
	fds := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(fds)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if have, err := os.Stat(filepath.Join(fds, e.Name())); err == nil && os.SameFile(want, have) {
			return true
		}
	}
	return false
}
