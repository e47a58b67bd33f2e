package pgtest

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// newCluster makes a cluster in dir: a copy of a kept initdb with a system identifier of its own.
func newCluster(bin, dir string, o Options, a *account) error {
	template, err := template(bin, o, a)
	if err != nil {
		return err
	}
	if out, err := exec.Command("cp", "-a", "--reflink=auto", template, dir).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w: %s", template, err, out)
	}
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	id[7] = id[7]&0x3f | 0x60 // as large as those of today's clocks, below 2^63
	return setSystemID(dir, binary.LittleEndian.Uint64(id[:]))
}

// template gives a folder made by initdb with these options, kept between runs.
func template(bin string, o Options, a *account) (string, error) {
	cache, err := templateCache(bin)
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("%d-seg%d", o.Version, o.segmentMB())
	if o.NoChecksums {
		name += "-nosums"
	}
	dir := filepath.Join(cache, name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	tmp, err := os.MkdirTemp(cache, ".new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := a.own(tmp); err != nil {
		return "", err
	}
	if err := initdb(bin, filepath.Join(tmp, "data"), o, a); err != nil {
		return "", err
	}
	if err := os.Rename(filepath.Join(tmp, "data"), dir); err != nil {
		if _, there := os.Stat(dir); there != nil { // else another process was faster
			return "", err
		}
	}
	return dir, nil
}

// templateCache gives the folder of kept clusters, one for each user and server release.
func templateCache(bin string) (string, error) {
	root, err := repositoryRoot()
	if err != nil {
		return "", err
	}
	base := filepath.Join(root, ".cache")
	if dir := os.Getenv("PGKEEP_CACHE"); dir != "" {
		base = dir
	}
	info, err := os.Stat(filepath.Join(bin, "postgres"))
	if err != nil {
		return "", err
	}
	release := fmt.Sprintf("%x-%x", info.Size(), info.ModTime().Unix())
	dir := filepath.Join(base, "clusters", strconv.Itoa(os.Geteuid()), release)
	err = os.MkdirAll(dir, 0o755) // #nosec: the server is another user
	switch {
	case os.Geteuid() == 0 && (err != nil || !reachable(dir)):
		dir = filepath.Join("/var/cache/pgkeep/clusters", release)
	case errors.Is(err, fs.ErrPermission): // a folder that another user filled
		own, cerr := os.UserCacheDir()
		if cerr != nil {
			return "", err
		}
		dir = filepath.Join(own, "pgkeep", "clusters", release)
	default:
		return dir, err
	}
	return dir, os.MkdirAll(dir, 0o755) // #nosec: as above
}

// reachable tells whether others may pass every folder down to dir.
func reachable(dir string) bool {
	for ; dir != "/"; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
	}
	return true
}

func initdb(bin, dir string, o Options, a *account) error {
	args := []string{
		"-D", dir, "-U", "postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C",
		"--wal-segsize=" + strconv.Itoa(o.segmentMB()),
	}
	switch {
	case !o.NoChecksums:
		args = append(args, "--data-checksums")
	case o.Version >= 18:
		args = append(args, "--no-data-checksums")
	}
	cmd := exec.Command(filepath.Join(bin, "initdb"), args...)
	cmd.Env = cleanEnv()
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.credential()}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

// cleanEnv is the environment of server and client processes: nothing of PG* leaks in.
func cleanEnv() []string {
	return []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC", "HOME=/nonexistent"}
}

// setSystemID gives a cleanly stopped cluster another identifier: the first eight bytes of pg_control, whose CRC-32C
// stands at a place that depends on the version and is found by its value, and the long header of its WAL segments.
func setSystemID(dir string, id uint64) error {
	if err := setControlID(filepath.Join(dir, "global", "pg_control"), id); err != nil {
		return err
	}
	return filepath.WalkDir(filepath.Join(dir, "pg_wal"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || len(d.Name()) != 24 {
			return err
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		const sysID = 24 // XLogLongPageHeaderData: after the 24 bytes of the short header
		_, err = f.WriteAt(binary.LittleEndian.AppendUint64(nil, id), sysID)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		return err
	})
}

func setControlID(path string, id uint64) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	for at := 200; at+4 <= min(len(b), 512); at += 4 {
		if binary.LittleEndian.Uint32(b[at:]) != crc32.Checksum(b[:at], table) {
			continue
		}
		binary.LittleEndian.PutUint64(b, id)
		binary.LittleEndian.PutUint32(b[at:], crc32.Checksum(b[:at], table))
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		if _, err := f.WriteAt(b, 0); err != nil {
			_ = f.Close()
			return err
		}
		return f.Close()
	}
	return fmt.Errorf("%s: no CRC found", path)
}
