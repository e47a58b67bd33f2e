package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pgkeep/pgkeep/state/host"
)

// place is the directory of one demo, and the processes in it.
type place struct {
	dir    string
	bindir string
	owner  host.Owner
	pgkeep string // the program; a copy where the owner may not run the original
	out    io.Writer
}

// newPlace makes the directory, all that is in it private to the owner of the servers.
func newPlace(o Options, bindir string, owner host.Owner) (*place, error) {
	// Not below /tmp, which may be memory: a spool there would be refused.
	top := "/var/tmp"
	if info, err := os.Stat(top); err != nil || !info.IsDir() {
		top = ""
	}
	dir, err := os.MkdirTemp(top, "pgkeep-demo-")
	if err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	p := &place{dir: dir, bindir: bindir, owner: owner, pgkeep: o.Program, out: o.Out}
	for _, sub := range []string{"", "server", "socket", "spool"} {
		path := filepath.Join(dir, sub)
		if err := errors.Join(os.MkdirAll(path, 0o700), os.Chmod(path, 0o700), os.Chown(path, owner.UID, owner.GID)); err != nil {
			return p, fmt.Errorf("make %s: %w", path, err)
		}
	}
	return p, nil
}

// ownProgram copies pgkeep to where the owner of the servers may run it: PostgreSQL calls it for the WAL.
func (p *place) ownProgram(ctx context.Context) error {
	if err := p.quietly(p.asOwner(ctx, p.pgkeep, "version")); err == nil {
		return nil
	}
	from, err := os.Open(p.pgkeep)
	if err != nil {
		return fmt.Errorf("copy %s: %w", p.pgkeep, err)
	}
	defer from.Close()
	name := filepath.Join(p.dir, "pgkeep")
	to, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return fmt.Errorf("copy %s: %w", p.pgkeep, err)
	}
	_, err = io.Copy(to, from)
	if err = errors.Join(err, to.Chmod(0o755), to.Close()); err != nil {
		return fmt.Errorf("copy %s: %w", p.pgkeep, err)
	}
	p.pgkeep = name
	return p.quietly(p.asOwner(ctx, p.pgkeep, "version"))
}

// asOwner is a command that runs as the owner of the servers. It ends with ctx: first it is asked to, and some seconds
// later it is made to. A Ctrl-C of the terminal does not reach it by itself, so that it ends once and tidily.
func (p *place) asOwner(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = p.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TERM=" + os.Getenv("TERM"), "LC_ALL=C", "HOME=" + p.dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(p.owner.UID), Gid: uint32(p.owner.GID)}
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	return cmd
}

// write writes a file that only the owner of the servers can read.
func (p *place) write(name, content string) error {
	path := filepath.Join(p.dir, name)
	if err := errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chown(path, p.owner.UID, p.owner.GID)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// quietly runs a command whose output matters only when it fails.
func (p *place) quietly(cmd *exec.Cmd) error {
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w\n%s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(out.String()))
	}
	return nil
}

// start starts the server of a data directory, on a socket in the demo's own folder and nothing else. Its output goes to
// a file: a server that inherited a pipe would keep it open.
func (p *place) start(ctx context.Context, data string, port int) error {
	options := fmt.Sprintf("-c listen_addresses='' -c unix_socket_directories='%s' -c unix_socket_permissions=0700 -p %d", filepath.Join(p.dir, "socket"), port)
	log := filepath.Join(p.dir, filepath.Base(data)+".log")
	cmd := p.asOwner(ctx, filepath.Join(p.bindir, "pg_ctl"), "-D", data, "-l", log, "-w", "-t", "60", "-o", options, "start")
	if err := cmd.Run(); err != nil {
		tail, _ := os.ReadFile(log)
		return fmt.Errorf("start the server in %s: %w\n%s", data, err, tail[max(0, len(tail)-2000):])
	}
	return nil
}

// stop ends the server of a data directory at once; one that does not run is stopped.
func (p *place) stop(ctx context.Context, data string) error {
	if _, err := os.Stat(filepath.Join(data, "postmaster.pid")); err != nil {
		return nil
	}
	return p.quietly(p.asOwner(ctx, filepath.Join(p.bindir, "pg_ctl"), "-D", data, "-m", "immediate", "-w", "-t", "30", "stop"))
}

// clean stops what runs and removes the directory. What could not be stopped is left where it is, and said.
func (p *place) clean(ctx context.Context) error {
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer done()
	err := errors.Join(p.stop(ctx, p.restored()), p.stopReceiver(ctx), p.stop(ctx, p.data()))
	if err != nil {
		return fmt.Errorf("clean up %s, which is left as it is: %w", p.dir, err)
	}
	if err := os.RemoveAll(p.dir); err != nil {
		return fmt.Errorf("remove %s: %w", p.dir, err)
	}
	return nil
}

func (p *place) stopReceiver(ctx context.Context) error {
	if _, err := os.Stat(p.configuration()); err != nil {
		return nil
	}
	return p.quietly(p.asOwner(ctx, p.pgkeep, "--dir", p.dir, "receiver", "stop", "shop"))
}

func (p *place) data() string          { return filepath.Join(p.dir, "server") }
func (p *place) restored() string      { return filepath.Join(p.dir, "restored") }
func (p *place) configuration() string { return filepath.Join(p.dir, "pgkeep.hcl") }
