package torture

import (
	"context"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// held commits a transaction and holds it between reading the clock and writing its record, while meanwhile runs: its
// commit comes after those of meanwhile in the WAL, with a time before theirs. It gives the transaction.
//
// PostgreSQL reads the clock and then calls XLogInsert, so the server process is stopped there, as a debugger does.
func held(t *testing.T, pg *pgtest.Server, meanwhile func()) uint32 {
	t.Helper()
	ctx := context.Background()
	c, err := pgx.Connect(ctx, pg.Conninfo())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	if _, err := c.Exec(ctx, "begin"); err != nil {
		t.Fatal(err)
	}
	var xid int64
	if err := c.QueryRow(ctx, "insert into ledger default values returning xid").Scan(&xid); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // who traces a process is a thread
	defer runtime.UnlockOSThread()
	b := &breakpoint{pid: int(c.PgConn().PID())}
	if err := b.set("XLogInsert"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, err := c.Exec(ctx, "commit"); done <- err }()
	if err := b.await(); err != nil {
		t.Fatal(err)
	}
	meanwhile()
	if err := b.release(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return uint32(xid)
}

// breakpoint stops a server process where a function begins.
type breakpoint struct {
	pid  int
	at   uintptr
	code []byte // what stands there
}

func (b *breakpoint) set(function string) error {
	if err := syscall.PtraceAttach(b.pid); err != nil {
		return fmt.Errorf("trace process %d: %w", b.pid, err)
	}
	if _, err := syscall.Wait4(b.pid, nil, 0, nil); err != nil {
		return err
	}
	var err error
	if b.at, err = addressOf(b.pid, function); err != nil {
		return err
	}
	b.code = make([]byte, 1)
	if _, err := syscall.PtracePeekText(b.pid, b.at, b.code); err != nil {
		return err
	}
	if _, err := syscall.PtracePokeText(b.pid, b.at, []byte{0xCC}); err != nil {
		return err
	}
	return syscall.PtraceCont(b.pid, 0)
}

// await returns when the process is there. Other signals are its own.
func (b *breakpoint) await() error {
	for {
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(b.pid, &status, 0, nil); err != nil {
			return err
		}
		switch {
		case !status.Stopped():
			return fmt.Errorf("process %d ended", b.pid)
		case status.StopSignal() == syscall.SIGTRAP:
			return nil
		}
		if err := syscall.PtraceCont(b.pid, int(status.StopSignal())); err != nil {
			return err
		}
	}
}

// release lets the process go on as if nothing had been there.
func (b *breakpoint) release() error {
	var r syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(b.pid, &r); err != nil {
		return err
	}
	r.Rip = uint64(b.at)
	if err := syscall.PtraceSetRegs(b.pid, &r); err != nil {
		return err
	}
	if _, err := syscall.PtracePokeText(b.pid, b.at, b.code); err != nil {
		return err
	}
	return syscall.PtraceDetach(b.pid)
}

// addressOf finds a function of a running program.
func addressOf(pid int, function string) (uintptr, error) {
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return 0, err
	}
	file, err := elf.Open(program)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return 0, err
	}
	maps, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "maps"))
	if err != nil {
		return 0, err
	}
	var base uint64
	if file.Type == elf.ET_DYN { // wherever it was put
		first, _, _ := strings.Cut(string(maps), "-")
		if base, err = strconv.ParseUint(first, 16, 64); err != nil {
			return 0, err
		}
	}
	for _, s := range symbols {
		if s.Name == function && s.Value != 0 {
			return uintptr(base + s.Value), nil
		}
	}
	return 0, fmt.Errorf("%s has no %s", program, function)
}
