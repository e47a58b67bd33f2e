package recovery

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// stored tells whether an error of a restore says something of what is stored: that it is damaged, or missing.
func stored(err error) bool {
	switch state.CodeOf(err) {
	case state.CodeCorrupt, state.CodeGap:
		return true
	case state.CodeTarget: // of a segment of the route
		var why hard
		return errors.Is(err, store.ErrNotExist) || errors.As(err, &why) && why.onlyCorrupt()
	}
	return false
}

// told leaves out what was done when an object was found damaged: which one it is says more.
func told(err error) error {
	if e := (*state.Error)(nil); errors.As(err, &e) {
		return e
	}
	return err
}

// lost names the relations that a damaged object of the backup takes with it, as far as it is known; empty: it is not.
func (d *DrillRun) lost(ctx context.Context, err error) string {
	var frame *repository.DamagedFrame
	if !errors.As(err, &frame) {
		return ""
	}
	var want []wal.Relation
	for _, file := range frame.Files {
		if r, ok := relationOf(file); ok && !slices.Contains(want, r) {
			want = append(want, r)
		}
	}
	if len(want) == 0 || d.Names == nil {
		return ""
	}
	names, err := d.Names(ctx, want)
	if err != nil {
		return "; the names of what it holds cannot be read either"
	}
	var told []string
	for _, r := range names {
		if r.Name != "" {
			told = append(told, r.Kind+" "+r.Name)
		}
	}
	slices.Sort(told)
	switch n := len(told); {
	case n == 0:
		return ""
	case n > mostLost:
		return fmt.Sprintf("; it holds a part of %s and %d more", strings.Join(told[:mostLost], ", "), n-mostLost)
	}
	return "; it holds a part of " + strings.Join(told, ", ")
}

const mostLost = 10

// relationOf gives the relation that a file of a database belongs to, by its path in a backup: base/5/16384_fsm.1, or
// PG_15_202209061/5/16384 below a tablespace.
func relationOf(file string) (r wal.Relation, ok bool) {
	database, err := strconv.ParseUint(path.Base(path.Dir(file)), 10, 32)
	if err != nil {
		return r, false
	}
	name, _, _ := strings.Cut(path.Base(file), ".")
	name, _, _ = strings.Cut(name, "_")
	number, err := strconv.ParseUint(name, 10, 32)
	return wal.Relation{Database: uint32(database), Number: uint32(number)}, err == nil
}
