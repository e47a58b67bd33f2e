package recovery

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/wal"
)

// Offsets in ControlFileData, from pg_control.h: the same in 13 to 18 up to the settings.
const (
	controlSystemID = 0
	controlSettings = 180 // MaxConnections, and four more int32
	controlLength   = 8192
)

// readControl fetches global/pg_control into memory. It is written last; what it says of settings is needed before.
func (r *restore) readControl(ctx context.Context) error {
	content := make([]byte, controlLength)
	got := 0
	want := func(f *repository.File) bool {
		return f.Folder == 0 && f.Path == controlPath && f.Size == controlLength
	}
	err := r.Backup.Pieces(ctx, repository.PieceOptions{Workers: 1, Want: want}, func(p repository.Piece) error {
		got += copy(content[min(max(p.Offset, 0), controlLength):], p.Data)
		return nil
	})
	if err != nil {
		return fmt.Errorf("restore backup %s: %w", r.Route.Backup, err)
	}
	if got != controlLength {
		return r.corrupt("it has no " + controlPath)
	}
	id := strconv.FormatUint(binary.LittleEndian.Uint64(content[controlSystemID:]), 10)
	if id != r.Route.SystemID {
		return &state.Error{
			Code: state.CodeIdentity, Hint: "pgkeep backups list",
			Text: fmt.Sprintf("backup %s is of system %s, and the route of system %s", r.Route.Backup, id, r.Route.SystemID),
		}
	}
	number := func(i int) int { return int(int32(binary.LittleEndian.Uint32(content[controlSettings+4*i:]))) }
	r.control = content
	r.settings = r.Settings.Max(wal.Settings{
		MaxConnections: number(0), MaxWorkers: number(1), MaxSenders: number(2), MaxPrepared: number(3), MaxLocks: number(4),
	})
	return nil
}

// removeControl makes sure, durably, that a directory under repair does not start.
func (r *restore) removeControl() error {
	root := r.roots[0]
	err := root.Remove(controlPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", controlPath, err)
	}
	return syncName(root, "global")
}

// finish writes pg_control and says that the restore is complete.
func (r *restore) finish(context.Context) error {
	if err := r.replace(r.roots[0], controlPath, r.control); err != nil { // never a part of it: that would look like another's
		return err
	}
	return r.writeMarker(true)
}
