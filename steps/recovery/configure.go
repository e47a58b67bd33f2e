package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

const (
	mainConf = "postgresql.conf"
	autoConf = "postgresql.auto.conf"

	hbaConf   = "pg_hba.conf"
	identConf = "pg_ident.conf"
	maxConf   = 4 << 20 // bytes of a configuration file that are read
)

// captured is what the backup knows of a configuration that is not in the data directory.
type captured struct {
	postgres.Captured
	known bool
}

func (c captured) tablespaceNames() map[uint32]string {
	out := map[uint32]string{}
	for _, t := range c.Tablespaces {
		out[t.OID] = t.Name
	}
	return out
}

func readCaptured(ctx context.Context, b Backup) (captured, error) {
	content, err := b.Captured(ctx)
	if errors.Is(err, store.ErrNotExist) {
		return captured{}, nil
	}
	if err != nil {
		return captured{}, fmt.Errorf("read the captured settings of backup %s: %w", b.Info().ID, err)
	}
	var c captured
	if err := json.Unmarshal(content, &c); err != nil {
		return captured{}, &state.Error{Code: state.CodeCorrupt, Text: "backup " + b.Info().ID + ": the captured settings cannot be read", Err: err}
	}
	c.known = true
	return c, nil
}

// configure makes the copy start, recover to the target, and leave the world alone. The configuration as it was in the
// backup is kept in originals/.
func (r *restore) configure(ctx context.Context) error {
	if err := r.keepOriginals(); err != nil {
		return err
	}
	if err := r.ensureMainConf(); err != nil {
		return err
	}
	if err := r.ensureHBA(); err != nil {
		return err
	}
	if err := r.placeProgram(ctx); err != nil {
		return err
	}
	if err := r.writeAutoConf(); err != nil {
		return err
	}
	if err := r.writeRoute(); err != nil {
		return err
	}
	root := r.roots[0]
	if err := r.write(root, "backup_label", r.label); err != nil {
		return err
	}
	signal, other := "recovery.signal", "standby.signal"
	if r.Route.Destination.PrimaryConninfo != "" {
		signal, other = other, signal
		r.note("it is a standby of " + r.Route.Destination.PrimaryConninfo + "; archive_mode is off in it, also once it is promoted")
	}
	if err := root.Remove(other); err != nil && !errors.Is(err, fs.ErrNotExist) { // of an earlier try
		return fmt.Errorf("remove %s: %w", other, err)
	}
	if err := r.write(root, signal, nil); err != nil {
		return err
	}
	return syncName(root, ".")
}

// read gives a file of the data directory; nil when it is not there.
func (r *restore) read(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConf+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > maxConf {
		return nil, fmt.Errorf("read %s: it is longer than %d bytes", name, maxConf)
	}
	return b, nil
}

// keepOriginals copies configuration files before they are changed. Copies of an earlier try stay: they are older.
func (r *restore) keepOriginals() error {
	if err := r.beside.Mkdir(originalsDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("keep the original configuration: %w", err)
	}
	if err := r.own(r.beside, originalsDir); err != nil {
		return err
	}
	for _, name := range []string{mainConf, autoConf, hbaConf} {
		kept := path.Join(originalsDir, name)
		if !r.inBackup[name] {
			continue // what is there was written by an earlier try
		}
		if _, err := r.beside.Stat(kept); err == nil {
			continue
		}
		b, err := r.read(r.roots[0], name)
		if err != nil {
			return err
		}
		if b == nil {
			continue
		}
		if err := r.replace(r.beside, kept, b); err != nil {
			return err
		}
	}
	return nil
}

// ensureMainConf writes a postgresql.conf where the backup has none, and takes out of the backup's what cannot be
// overridden and would lead elsewhere: data_directory, and includes of files that are not in the data directory.
func (r *restore) ensureMainConf() error {
	if !r.inBackup[mainConf] {
		return r.replace(r.roots[0], mainConf, []byte(r.minimalConf()))
	}
	b, err := r.read(r.beside, path.Join(originalsDir, mainConf))
	if err != nil {
		return err
	}
	var out strings.Builder
	changed := false
	for _, line := range strings.SplitAfter(string(b), "\n") {
		if s, ok := parseSetting(line); ok && r.leadsElsewhere(s) {
			out.WriteString("# not in a restored copy: ")
			changed = true
		}
		out.WriteString(line)
	}
	if !changed {
		return nil
	}
	r.note("postgresql.conf of the copy leaves out data_directory and includes of files outside the data directory")
	return r.replace(r.roots[0], mainConf, []byte(out.String()))
}

func (r *restore) leadsElsewhere(s setting) bool {
	switch s.name {
	case "data_directory", "config_file":
		return true
	case "include", "include_dir":
		if filepath.IsAbs(s.value) {
			return true
		}
		_, err := r.roots[0].Stat(s.value)
		return err != nil
	case "include_if_exists":
		return filepath.IsAbs(s.value)
	}
	return false
}

// minimalConf is for a server whose configuration was outside the data directory.
func (r *restore) minimalConf() string {
	var b strings.Builder
	b.WriteString("# Written by pgkeep: the server kept its configuration outside the data directory, so the backup has none.\n")
	if !r.captured.known {
		r.note("the backup has no postgresql.conf and the role could not read the settings: a minimal one was written")
		return b.String()
	}
	b.WriteString("# These settings were read from the running server when the backup was taken.\n")
	for _, s := range r.captured.Settings {
		if !isSettingName(s.Name) || s.Value == "********" || s.Source == "command line" || strings.HasSuffix(s.Name, "_file") || s.Name == "data_directory" || s.Name == "config_file" {
			continue
		}
		fmt.Fprintf(&b, "%s = %s\n", s.Name, quoteSetting(s.Value))
	}
	r.note("the backup has no postgresql.conf: one was written from the settings that the server had")
	return b.String()
}

// isSettingName tells whether a word may stand on the left of a line of postgresql.conf: a repository is not trusted not to hold more.
func isSettingName(s string) bool {
	for i := range len(s) {
		if !isNameByte(s[i], i) {
			return false
		}
	}
	return s != "" && len(s) < 200
}

func blankControl(c rune) rune {
	if c < ' ' || c == 0x7f {
		return ' '
	}
	return c
}

// ensureHBA writes pg_hba.conf and pg_ident.conf where the backup has none.
func (r *restore) ensureHBA() error {
	root := r.roots[0]
	if r.Isolated != "" {
		if err := r.replace(root, hbaConf, []byte(isolatedHBA)); err != nil {
			return err
		}
	} else if !r.inBackup[hbaConf] {
		lines := []string{
			"# Written by pgkeep: the backup has no pg_hba.conf.",
			"local all all peer",
			"host all all 127.0.0.1/32 scram-sha-256",
			"host all all ::1/128 scram-sha-256",
		}
		if len(r.captured.HBA) > 0 {
			lines = []string{"# Written by pgkeep from the rules that the server had."}
			for _, rule := range r.captured.HBA {
				lines = append(lines, strings.Map(blankControl, rule)) // none may begin another line
			}
		} else {
			r.note("the backup has no pg_hba.conf: one was written that lets the owner in by the local socket, and others on this machine by password")
		}
		if err := r.replace(root, hbaConf, []byte(strings.Join(lines, "\n")+"\n")); err != nil {
			return err
		}
	}
	if !r.inBackup[identConf] {
		return r.replace(root, identConf, []byte("# Written by pgkeep: the backup has no pg_ident.conf.\n"))
	}
	return nil
}

// writeAutoConf rewrites postgresql.auto.conf, which PostgreSQL reads last: what was there stays, but for the settings
// that this copy must have otherwise.
func (r *restore) writeAutoConf() error {
	original, err := r.read(r.beside, path.Join(originalsDir, autoConf))
	if err != nil {
		return err
	}
	main, err := r.read(r.roots[0], mainConf)
	if err != nil {
		return err
	}
	configured := parseSettings(main)
	for name, value := range parseSettings(original) {
		configured[name] = value
	}
	major := r.Backup.Info().Version / 10000
	ours := append(disarmed(major), targetSettings(r.Route)...)
	ours = append(ours, raised(r.settings, configured)...)
	ours = append(ours, r.paths(major, configured)...)
	ours = append(ours, r.invalidPages()...)
	route := RouteFile(r.places[0])
	ours = append(ours, setting{"restore_command", restoreCommand(r.Program, route, aheadPath(route, r.routeContent()))})
	ours = append(ours, r.isolatedSettings(major, configured)...)
	names := map[string]bool{}
	for _, s := range ours {
		names[s.name] = true
	}
	var b strings.Builder
	b.WriteString(without(original, names))
	fmt.Fprintf(&b, "# Written by pgkeep for a copy of %s, backup %s. The originals are in %s.\n",
		r.Route.Server, r.Route.Backup, filepath.Join(stateDir(r.places[0]), originalsDir))
	for _, s := range ours {
		fmt.Fprintf(&b, "%s = %s\n", s.name, quoteSetting(s.value))
	}
	if r.Isolated == "" {
		r.noteJobs(configured["shared_preload_libraries"])
	}
	return r.replace(r.roots[0], autoConf, []byte(b.String()))
}

// noteJobs names libraries that begin to work by themselves when a copy is promoted.
func (r *restore) noteJobs(libraries string) {
	for _, job := range append(jobs(), "timescaledb") {
		if strings.Contains(libraries, job) {
			r.note(fmt.Sprintf("shared_preload_libraries has %s: its jobs run in the copy once it is promoted", job))
		}
	}
}

// allExist tells whether every directory of a comma-separated list is there.
func allExist(dirs string) bool {
	for _, dir := range strings.Split(dirs, ",") {
		dir = strings.Trim(strings.TrimSpace(dir), `"`)
		if info, err := os.Stat(dir); dir != "" && (err != nil || !info.IsDir()) {
			return false
		}
	}
	return true
}
