package steps

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/pgkeep/pgkeep/state"
)

// logTail bounds how much of a receiver's log an error quotes, in bytes.
const logTail = 400

// awaitLock waits until the process pid, a receiver that was just started, holds its lock, or has ended without it: then
// what it wrote to its log says why.
func (r detachedReceivers) awaitLock(ctx context.Context, server string, pid int, log logEnd) error {
	process, err := os.FindProcess(pid) // a handle on this one process: its id may be used again
	if err != nil {
		return fmt.Errorf("find process %d: %w", pid, err)
	}
	defer process.Release()
	ctx, done := context.WithTimeout(ctx, startPatience)
	defer done()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ended := errors.Is(process.Signal(syscall.Signal(0)), os.ErrProcessDone) // asked first: it may take the lock and end
		seen, err := r.Look(ctx, server)
		switch {
		case err != nil || seen.Running:
			return err
		case ended:
			return &state.Error{
				Code: state.CodeUnreachable,
				Text: fmt.Sprintf("process %d ended at once: %s", pid, log.since()),
				Hint: "look at its log: " + log.path,
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for process %d to take its lock: %w", pid, ctx.Err())
		case <-tick.C:
		}
	}
}

// logEnd is the end of a log before a process began to write to it.
type logEnd struct {
	path string
	size int64
}

func logOf(path string) logEnd {
	l := logEnd{path: path}
	if info, err := os.Stat(path); err == nil {
		l.size = info.Size()
	}
	return l
}

// since gives the last lines that were written since, as one.
func (l logEnd) since() string {
	f, err := os.Open(l.path)
	if err != nil {
		return "its log cannot be read"
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "its log cannot be read"
	}
	from := max(l.size, info.Size()-logTail)
	content, err := io.ReadAll(io.NewSectionReader(f, from, logTail))
	text := string(content)
	if _, whole, cut := strings.Cut(text, "\n"); cut && from > l.size && strings.TrimSpace(whole) != "" {
		text = whole // from the beginning of a line on
	}
	if text = strings.Join(strings.Fields(text), " "); err != nil || text == "" {
		return "it said nothing"
	}
	return text
}
