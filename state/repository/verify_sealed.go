package repository

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// Where volumes and WAL cannot be decrypted they are verified all the same: their stored bytes are those that a trusted writer has signed,
// and the note in their header, which the meta key opens, says of what they hold what the lists and the index say.

// closed tells whether an object cannot be decrypted here.
func (c *Cluster) closed(key string) bool {
	return c.repo.box != nil && classOf(key) == seal.ClassData && !c.repo.ReadsData()
}

// proveSealed compares what an object that cannot be decrypted was signed to hold with its line.
func (c *Cluster) proveSealed(ctx context.Context, key string, l sumLine) error {
	n, err := c.repo.box.prove(ctx, key)
	if err != nil {
		return err
	}
	if n.Size != l.size || n.SHA256 != l.sum {
		return corrupt(key, errSum)
	}
	return nil
}

// sealedVolume is volume for one that cannot be decrypted.
func (v *verification) sealedVolume(ctx context.Context, key string, l *tableLine) error {
	err := v.c.proveSealed(ctx, key, sumLine{size: l.size, sum: l.sum})
	l.read = true
	if err == nil {
		v.depth.remember(key, l.sum)
		return nil
	}
	if !l.bad {
		l.bad = true
		if err := v.reportOr(ctx, key, err); err != nil {
			return err
		}
	}
	v.mu.Lock()
	if len(v.restore.volumes) < maxFindings && !slices.Contains(v.restore.volumes, key) {
		v.restore.volumes = append(v.restore.volumes, key)
	}
	v.mu.Unlock()
	return v.cannot(ctx, missing(key, err))
}

// proveSealed is prove for WAL that cannot be decrypted.
func (w *timelineCheck) proveSealed(ctx context.Context, n walName, e indexEntry, indexed bool) error {
	key := w.c.key.walFile(n, w.z)
	note, err := w.c.repo.box.prove(ctx, key)
	m, err := metaIn(note, key, err)
	if err != nil {
		return err
	}
	if _, bad := w.c.checkHead(m, n, w.z); bad != nil {
		return corrupt(key, bad)
	}
	if indexed && e.SHA256 != "" && m.Plain.SHA256 != e.SHA256 {
		return corrupt(key, fmt.Errorf("its SHA-256 is %s; the index has seen it with %s", m.Plain.SHA256, e.SHA256))
	}
	return nil
}

// verifyKeys looks at the keys of an encrypted repository: that each record is signed by a trusted writer for this repository, and that the keys
// by which it was opened are still there. What is wrapped for others cannot be looked into.
func (r *Repository) verifyKeys(ctx context.Context, report func(Finding)) error {
	if r.box == nil {
		return nil
	}
	found, _, err := findKeys(ctx, r.times, r.file.ID, r.fileSum, r.ring)
	if err != nil {
		return reportOr(ctx, report, keysDir, err)
	}
	there := map[string]bool{}
	for _, f := range found {
		if errors.Is(f.bad, errForeignKey) {
			continue // what a Create that was cut short left opens nothing and hurts nothing
		}
		if f.bad != nil {
			if err := reportOr(ctx, report, keyFile(f.id), corrupt(keyFile(f.id), f.bad)); err != nil {
				return err
			}
			continue
		}
		there[f.id] = true
		for _, class := range []seal.Class{seal.ClassMeta, seal.ClassData} {
			if !f.wrappedFor(class) {
				err := corrupt(keyFile(f.id), fmt.Errorf("its %s half is wrapped for nobody: nobody can read what was sealed with it", class))
				if err := reportOr(ctx, report, keyFile(f.id), err); err != nil {
					return err
				}
			}
		}
	}
	for _, k := range r.keys {
		if !there[k.ID] {
			if err := reportOr(ctx, report, keyFile(k.ID), corrupt(keyFile(k.ID), errors.New("it is missing"))); err != nil {
				return err
			}
		}
	}
	return nil
}
