package repository

import (
	"fmt"
	"slices"
)

// DamagedFrame is the cause of an error of state.CodeCorrupt: a frame of a volume whose stored bytes are not what was written.
type DamagedFrame struct {
	Offset int64    // in the volume
	Files  []string // of the backup, of which the frame holds a part; at most a thousand of those that were wanted
	Err    error
}

// Error says where the frame is and whose content it holds.
func (d *DamagedFrame) Error() string {
	holds := "holds nothing that was wanted"
	if n := len(d.Files); n > 0 {
		holds = "holds a part of " + d.Files[0]
		if n > 1 {
			holds += fmt.Sprintf(" and of %d more files", n-1)
		}
	}
	return fmt.Sprintf("the frame at %d, which %s: %s", d.Offset, holds, d.Err)
}

// Unwrap gives what is wrong with it.
func (d *DamagedFrame) Unwrap() error { return d.Err }

const mostDamaged = 1000

func (f wantedFrame) damaged(why error) error {
	d := &DamagedFrame{Offset: f.offset, Err: why}
	for _, p := range f.parts {
		if len(d.Files) < mostDamaged && !slices.Contains(d.Files, p.file.Path) {
			d.Files = append(d.Files, p.file.Path)
		}
	}
	return d
}
