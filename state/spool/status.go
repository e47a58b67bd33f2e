package spool

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/pgkeep/pgkeep/state"
)

// Report writes what the receiver says of itself, replacing what was there as a whole. It is a report, not a record: it
// is not fsynced, and on a full disk it is written over in place, so that the fault itself can still be seen.
func (c *Claim) Report(r state.Receiver) error {
	r.Running, r.PID, r.Agent, r.Since = true, c.holder.PID, c.holder.Agent, c.holder.Since
	content, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write status of %s: %w", c.name, err)
	}
	content = append(content, '\n')
	path := filepath.Join(c.dir, statusName)
	temporary := path + ".new"
	err = os.WriteFile(temporary, content, 0o600)
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err == nil {
		return nil
	}
	os.Remove(temporary)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		err = overwrite(path, content)
	}
	return problem("write status of "+c.name, err)
}

func overwrite(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(content, 0)
	if err == nil {
		err = f.Truncate(int64(len(content)))
	}
	return errors.Join(err, f.Close())
}

// readStatus gives the last report, and whether there is a whole one.
func readStatus(home string) (state.Receiver, bool) {
	var r state.Receiver
	content, err := os.ReadFile(filepath.Join(home, statusName))
	if err != nil || json.Unmarshal(content, &r) != nil {
		return state.Receiver{}, false
	}
	return r, true
}
