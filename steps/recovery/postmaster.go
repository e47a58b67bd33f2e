package recovery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
)

// postmaster is a server that this process started, or found: one that an earlier Start left.
type postmaster struct {
	pid  int
	dir  string        // its data directory
	done chan struct{} // closed when a child of this process has ended; nil: it is no child
}

// launch starts the server of a data directory as its owner, in a session of its own: no signal of the terminal reaches
// it, and it outlives this process. Its log is written to a file beside the data directory, in the form that serverLog
// reads; the settings for that are on its command line and end with this start.
func launch(ctx context.Context, dir, binDir string, owner host.Owner, major int) (*postmaster, error) {
	log := LogFile(dir)
	if err := os.Rename(log, log+".old"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("keep the log of the start before: %w", err)
	}
	out, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, writeError(log, err)
	}
	defer out.Close()
	args := []string{"-D", dir}
	for _, s := range logSettings(major) {
		args = append(args, "-c", s.name+"="+s.value)
	}
	// The server is to outlive ctx.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), filepath.Join(binDir, "postgres"), args...) // #nosec: of the operator's bindir
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", out, out
	cmd.Env = serverEnvironment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if os.Geteuid() == 0 {
		if err := out.Chown(owner.UID, owner.GID); err != nil {
			return nil, writeError(log, err)
		}
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(owner.UID), Gid: uint32(owner.GID)} // #nosec: ids of the system
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	p := &postmaster{pid: cmd.Process.Pid, dir: dir, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // its log says how it ended
		close(p.done)
	}()
	return p, nil
}

// logSettings make the log one that can be read: in English, in one file, with the kind of each process.
func logSettings(major int) []setting {
	out := []setting{
		{"logging_collector", "off"},
		{"log_destination", "stderr"},
		{"log_min_messages", "warning"},
		{"log_error_verbosity", "default"},
		{"log_line_prefix", logPrefix},
		{"lc_messages", "C"},
	}
	if major >= 15 {
		out = append(out, setting{"log_startup_progress_interval", "5s"})
	}
	return out
}

// serverEnvironment is what a server inherits: nothing that could lead libpq or the server elsewhere.
func serverEnvironment() []string {
	out := []string{"LC_MESSAGES=C"}
	for _, name := range []string{"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH"} {
		if v, ok := os.LookupEnv(name); ok {
			out = append(out, name+"="+v)
		}
	}
	return out
}

// ended tells whether the process is gone.
func (p *postmaster) ended() bool {
	if p.done == nil {
		pid, err := host.Postmaster(p.dir) // its number alone may be another process's by now
		return err == nil && pid != p.pid
	}
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stop asks for a fast shutdown and waits for it, at most patience; false: it has not ended by then.
func (p *postmaster) stop(patience time.Duration) bool {
	if err := syscall.Kill(p.pid, syscall.SIGINT); err != nil && !p.ended() {
		return false
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for left := patience; left > 0; left -= pollEvery {
		if p.ended() {
			return true
		}
		<-tick.C
	}
	return p.ended()
}

// Startable refuses what would let a start fail after hours of restoring: an owner that PostgreSQL does not run as,
// programs that are absent or of another version, a port that is taken. It gives the directory of the programs.
func Startable(ctx context.Context, d hclspec.Destination, major int) (binDir string, err error) {
	owner, err := host.LookupOwner(d.Owner)
	if err != nil {
		return "", refuse("create the user, or name another with owner", "the owner of the restored files: %s", err)
	}
	if owner.UID == 0 {
		return "", refuse("name the user who is to run it: --owner postgres", "PostgreSQL refuses to run as root, so it cannot be started")
	}
	if d.BinDir == "" {
		binDir, err = host.FindBinaries(ctx, major)
	} else {
		binDir = d.BinDir
		if v, asked := host.BinaryVersion(ctx, binDir); asked != nil || v != major {
			err = errors.Join(fmt.Errorf("the programs in %s are of PostgreSQL %d, not %d", binDir, v, major), asked)
		}
	}
	if err != nil {
		return "", refuse(fmt.Sprintf("install PostgreSQL %d, or name its bindir", major), "the server cannot be started: %s", err)
	}
	if d.Port == 0 {
		return binDir, nil
	}
	var l net.ListenConfig
	probe, err := l.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(d.Port)))
	if err != nil {
		return "", refuse("choose another with --port, or `port` in the destination block", "the server cannot be started: port %d: %s", d.Port, err)
	}
	return binDir, probe.Close()
}

// Address gives the socket directory and port of the server that runs in a data directory, from its postmaster.pid; empty
// and 0: none runs.
func Address(dir string) (socketDir string, port int) {
	content, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		return "", 0
	}
	lines := strings.Split(string(content), "\n")
	if len(lines) < 5 {
		return "", 0
	}
	port, err = strconv.Atoi(strings.TrimSpace(lines[3]))
	if err != nil {
		return "", 0
	}
	if socketDir = strings.TrimSpace(lines[4]); socketDir == "" {
		socketDir = "localhost"
	}
	return socketDir, port
}

// tailOf gives the last lines of a log.
func tailOf(path string, lines int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	all := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// leftRunning is the error of a Start that was interrupted: what it left, in one sentence.
type leftRunning struct {
	text string
	err  error
}

// Error says what was left.
func (l *leftRunning) Error() string { return l.text }

// Unwrap gives why it was interrupted.
func (l *leftRunning) Unwrap() error { return l.err }

// Left says in what state the interruption left the world.
func (l *leftRunning) Left() string { return l.text }

func missed(route string, text string, err error) error {
	return &state.Error{Code: state.CodeMissed, Text: text, Hint: "its log is " + route, Err: err}
}
