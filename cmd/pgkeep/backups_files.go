package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/jsonlist"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

func backupsFilesCommand(a *app) *cobra.Command {
	var at holdTarget
	var only fileFilter
	var p printed
	c := &cobra.Command{
		Use: "files BACKUP [PATTERN...]", Short: "List the files of a backup, with their sizes", Args: cobra.MinimumNArgs(1),
		Long: `Lists what a restore of the backup writes, from its manifest: nothing of the files is read. Paths are those of the data
directory; files of a tablespace stand below pg_tblspc/OID/. A pattern with a slash is matched with the whole path, one
without with the last part of it; * ? and [a-z] match within one part. The WAL that a recovery needs: pgkeep wal list.`,
		Example: "  pgkeep backups files 20260210T211617Z-F-7f3a\n  pgkeep backups files 20260210T211617Z-F-7f3a 'base/16384/*' '*.conf'\n  pgkeep backups files 20260210T211617Z-F-7f3a --tablespace fast --json",
		RunE: func(c *cobra.Command, args []string) error {
			only.patterns = args[1:]
			if err := only.check(); err != nil {
				return err
			}
			found, err := a.find(c.Context(), args[0], at.server, at.repository)
			if err != nil {
				return err
			}
			spec, err := a.load()
			if err != nil {
				return err
			}
			return a.listFiles(c.Context(), spec, found[0], fileListing{only: only, json: p.json, out: a.out})
		},
	}
	at.flags(c)
	c.Flags().StringVar(&only.tablespace, "tablespace", "", "only files of this tablespace, by name or OID; pg_default: the data directory")
	p.flag(c, "the files")
	return c
}

// fileFilter says which files are wanted; the zero value wants all.
type fileFilter struct {
	tablespace string
	patterns   []string
}

func (f fileFilter) check() error {
	for _, p := range f.patterns {
		if _, err := path.Match(p, ""); err != nil {
			return usage("%q is no pattern: %s", p, err)
		}
	}
	return nil
}

func (f fileFilter) wants(x fileJSON) bool {
	if f.tablespace != "" && f.tablespace != x.Tablespace && (x.OID == 0 || f.tablespace != fmt.Sprint(x.OID)) {
		return false
	}
	for _, p := range f.patterns {
		subject := x.Path
		if !strings.Contains(p, "/") {
			subject = path.Base(subject)
		}
		if ok, _ := path.Match(p, subject); ok {
			return true
		}
	}
	return len(f.patterns) == 0
}

// fileJSON is one file as it is printed.
type fileJSON struct {
	Path       string `json:"path"`
	Type       string `json:"type"` // file | directory | link
	Bytes      int64  `json:"bytes"`
	Mode       string `json:"mode"`
	Modified   string `json:"modified"`
	Tablespace string `json:"tablespace"` // pg_default: the data directory
	OID        uint32 `json:"oid,omitempty"`
	Link       string `json:"link,omitempty"`
}

// listFiles prints the files of a backup while it reads them: a list of millions is never held.
func (a *app) listFiles(ctx context.Context, spec *hclspec.Spec, found foundBackup, l fileListing) error {
	r, closeStore, err := openRepository(ctx, spec, found.Repository)
	if err != nil {
		return err
	}
	defer closeStore()
	b, err := r.Cluster(found.Server, found.SystemID).OpenBackup(ctx, found.Backup.ID)
	if err != nil {
		return err
	}
	if l.named, err = capturedNames(ctx, b); err != nil {
		return err
	}
	for _, f := range b.Folders() {
		l.oids = append(l.oids, f.OID)
	}
	if l.only.tablespace != "" && !l.knows(l.only.tablespace) {
		return &state.Error{Code: state.CodeAbsent, Text: fmt.Sprintf("backup %s has no tablespace %q", found.Backup.ID, l.only.tablespace), Hint: "it has " + l.names()}
	}
	for f, err := range b.Files(ctx) {
		if err != nil {
			return err
		}
		if err := l.file(f); err != nil {
			return fmt.Errorf("print the files: %w", err)
		}
	}
	return l.end()
}

// fileListing is one list in progress.
type fileListing struct {
	only    fileFilter
	json    bool
	out     io.Writer
	oids    []uint32          // of the tablespaces that the backup has; 0: the data directory
	named   map[uint32]string // their names, as far as they were seen
	files   int
	entries int
	bytes   int64
}

func (l *fileListing) knows(tablespace string) bool {
	return slices.ContainsFunc(l.oids, func(oid uint32) bool {
		return l.tablespace(oid) == tablespace || oid != 0 && fmt.Sprint(oid) == tablespace
	})
}

func (l *fileListing) names() string {
	byName := map[string]bool{}
	for _, oid := range l.oids {
		byName[l.tablespace(oid)] = true
	}
	return strings.Join(sorted(byName), ", ")
}

// tablespace gives the name of a tablespace, or its OID where the role that took the backup could not see its name.
func (l *fileListing) tablespace(oid uint32) string {
	switch {
	case oid == 0:
		return "pg_default"
	case l.named[oid] == "":
		return fmt.Sprint(oid)
	}
	return l.named[oid]
}

// capturedNames reads the names of tablespaces from what was captured with the backup.
func capturedNames(ctx context.Context, b *repository.BackupReader) (map[uint32]string, error) {
	content, err := b.Captured(ctx)
	if errors.Is(err, store.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var captured struct {
		Tablespaces jsonlist.Of[state.Tablespace] `json:"tablespaces"`
	}
	if err := json.Unmarshal(content, &captured); err != nil {
		return nil, fmt.Errorf("read what was captured with the backup: %w", err)
	}
	names := map[uint32]string{}
	for _, t := range captured.Tablespaces {
		names[t.OID] = t.Name
	}
	return names, nil
}

func (l *fileListing) file(f repository.File) error {
	x := fileJSON{
		Path: f.Path, Type: "file", Bytes: f.Size, Mode: fmt.Sprintf("%04o", f.Mode), Modified: f.ModTime.UTC().Format("2006-01-02T15:04:05Z"),
		Tablespace: l.tablespace(f.Folder), OID: f.Folder, Link: f.Link,
	}
	if f.Folder != 0 {
		x.Path = fmt.Sprintf("pg_tblspc/%d/%s", f.Folder, f.Path)
	}
	switch f.Type {
	case repository.Directory:
		x.Type = "directory"
	case repository.SymbolicLink:
		x.Type = "link"
	case repository.RegularFile:
	}
	if !l.only.wants(x) {
		return nil
	}
	l.entries++
	if f.Type == repository.RegularFile {
		l.files++
		l.bytes += f.Size
	}
	if !l.json {
		return l.line(x)
	}
	b, err := json.Marshal(x)
	if err != nil {
		return err
	}
	before := ",\n  "
	if l.entries == 1 {
		before = "[\n  "
	}
	_, err = fmt.Fprintf(l.out, "%s%s", before, b)
	return err
}

func (l *fileListing) line(x fileJSON) error {
	name := x.Path
	switch x.Type {
	case "directory":
		name += "/"
	case "link":
		name += " -> " + x.Link
	}
	_, err := fmt.Fprintf(l.out, "%s %14d  %s  %s\n", x.Mode, x.Bytes, x.Modified, name)
	return err
}

func (l *fileListing) end() error {
	if !l.json {
		_, err := fmt.Fprintf(l.out, "%s, %s\n", counted(l.files, "file"), plan.Size(l.bytes))
		return err
	}
	end := "\n]\n"
	if l.entries == 0 {
		end = "[]\n"
	}
	_, err := io.WriteString(l.out, end)
	return err
}
