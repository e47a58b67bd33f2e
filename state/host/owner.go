package host

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Owner is a user that files can belong to.
type Owner struct {
	Name     string
	UID, GID int
}

// LookupOwner finds a user by name, or by number; an empty name is the user who runs this process.
func LookupOwner(name string) (Owner, error) {
	if name == "" {
		return Owner{UID: os.Geteuid(), GID: os.Getegid()}, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		if byID, errID := user.LookupId(name); errID == nil {
			u, err = byID, nil
		}
	}
	if err != nil {
		return Owner{}, fmt.Errorf("find user %q: %w", name, err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return Owner{}, fmt.Errorf("read the id of user %q: %w", name, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return Owner{}, fmt.Errorf("read the group of user %q: %w", name, err)
	}
	return Owner{Name: u.Username, UID: uid, GID: gid}, nil
}

// CanRead tells whether a user may read a file. Only the kernel knows, so a process of that user asks it; one who is not
// root can ask only for itself.
func CanRead(ctx context.Context, o Owner, path string) bool {
	if os.Geteuid() != 0 || o.UID == 0 {
		return unix.Access(path, unix.R_OK) == nil
	}
	cmd := exec.CommandContext(ctx, "test", "-r", path)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(o.UID), Gid: uint32(o.GID)}}
	return cmd.Run() == nil
}

// CanGiveTo tells whether this process may create files that belong to the owner.
func CanGiveTo(o Owner) bool { return os.Geteuid() == 0 || os.Geteuid() == o.UID }

// Who gives "user@host" of this process, for locks and journals.
func Who() string {
	name := strconv.Itoa(os.Geteuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	machine, err := Name()
	if err != nil {
		machine = "unknown"
	}
	return name + "@" + machine
}
