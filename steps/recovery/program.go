package recovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// programName is the copy of pgkeep in the state directory.
const programName = "pgkeep"

// placeProgram sees to it that PostgreSQL, which runs as the owner, can run the pgkeep that restore_command names. A root
// who built it in a home directory of his own restores into a server that may not even look there: then a copy goes
// beside the data directory.
func (r *restore) placeProgram(ctx context.Context) error {
	if os.Geteuid() != 0 || r.owner.UID == 0 || r.ownerMay(ctx, "-x", r.Program) {
		return nil
	}
	from, err := os.Open(r.Program)
	if err != nil {
		return fmt.Errorf("copy pgkeep beside the data directory: %w", err)
	}
	defer from.Close()
	if err := r.copyProgram(from); err != nil {
		return err
	}
	was := r.Program
	r.Program = filepath.Join(stateDir(r.places[0]), programName)
	r.note(fmt.Sprintf("user %s may not run %s: restore_command runs a copy of it, %s", r.owner.Name, was, r.Program))
	return nil
}

func (r *restore) copyProgram(from io.Reader) error {
	temporary := programName + ".new"
	to, err := r.beside.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o700)
	if err != nil {
		return fmt.Errorf("copy pgkeep beside the data directory: %w", err)
	}
	_, err = io.Copy(to, from)
	if err == nil {
		err = to.Sync()
	}
	if err = errors.Join(err, to.Close()); err != nil {
		return writeError(filepath.Join(r.beside.Name(), temporary), err)
	}
	if err := r.own(r.beside, temporary); err != nil {
		return fmt.Errorf("give the copy of pgkeep to its user: %w", err)
	}
	if err := r.beside.Rename(temporary, programName); err != nil {
		return fmt.Errorf("copy pgkeep beside the data directory: %w", err)
	}
	return syncName(r.beside, ".")
}

// ownerMay asks a question of test(1), such as "-r", about a file as the owner. Only the kernel knows the answer, so a
// process of the owner asks it.
func (r *restore) ownerMay(ctx context.Context, question, path string) bool {
	cmd := exec.CommandContext(ctx, "test", question, path)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(r.owner.UID), Gid: uint32(r.owner.GID)}}
	return cmd.Run() == nil
}
