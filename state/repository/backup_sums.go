package repository

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A sums shard is what sha256sum prints, with the size in a comment before each line, so that in a backup's directory
// `cat sums/* refs/* | sha256sum -c` proves everything without pgkeep:
//
//	# 8388412
//	1f3c…  v/base/000000
//
// A refs shard has the same form; its names begin with "../<backup>/".

// sumShardSize is how long a sums or refs shard may grow.
const sumShardSize = 4 << 20

// sumLine is one object in a sums or refs shard.
type sumLine struct {
	name string
	size int64
	sum  [sha256.Size]byte
}

func (l sumLine) appendTo(b []byte) []byte {
	b = append(b, "# "...)
	b = strconv.AppendInt(b, l.size, 10)
	b = append(b, '\n')
	b = hex.AppendEncode(b, l.sum[:])
	b = append(b, "  "...)
	b = append(b, l.name...)
	return append(b, '\n')
}

// parseSums reads a shard.
func parseSums(b []byte, visit func(sumLine) error) error {
	for len(b) > 0 {
		var size, line []byte
		var ok1, ok2 bool
		size, b, ok1 = bytes.Cut(b, []byte("\n"))
		line, b, ok2 = bytes.Cut(b, []byte("\n"))
		if !ok1 || !ok2 {
			return errors.New("a list of sums is cut short")
		}
		l, err := parseSum(string(size), string(line))
		if err != nil {
			return err
		}
		if err := visit(l); err != nil {
			return err
		}
	}
	return nil
}

func parseSum(size, line string) (sumLine, error) {
	var l sumLine
	digits, ok := strings.CutPrefix(size, "# ")
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || n < 0 {
		return l, fmt.Errorf("%.40q is not a size in a list of sums", size)
	}
	sum, name, ok := strings.Cut(line, "  ")
	if !ok || len(sum) != 2*sha256.Size || name == "" {
		return l, fmt.Errorf("%.80q is not a line of a list of sums", line)
	}
	if _, err := hex.Decode(l.sum[:], []byte(sum)); err != nil {
		return l, fmt.Errorf("%.80q is not a SHA-256: %w", sum, err)
	}
	l.name, l.size = name, n
	return l, nil
}

// referenceName gives the name of another backup's volume in a refs shard.
func referenceName(id, volume string) string { return "../" + id + "/" + volume }

// splitReference reads a name of a refs shard.
func splitReference(name string) (id, volume string, err error) {
	rest, ok := strings.CutPrefix(name, "../")
	id, volume, cut := strings.Cut(rest, "/")
	if !ok || !cut || CheckBackupID(id) != nil || checkVolumeName(volume) != nil {
		return "", "", fmt.Errorf("%.100q is not a volume of another backup", name)
	}
	return id, volume, nil
}

// checkVolumeName accepts what volumeName makes, and nothing else.
func checkVolumeName(name string) error {
	_, _, err := splitVolume(name)
	return err
}

// splitVolume reads what volumeName makes.
func splitVolume(name string) (folder uint32, number int, err error) {
	parts := strings.Split(name, "/")
	if len(parts) == 3 && parts[0] == "v" {
		oid, okOID := folderOID(parts[1])
		n, err := strconv.Atoi(parts[2])
		if okOID && err == nil && volumeName(oid, n) == name {
			return oid, n, nil
		}
	}
	return 0, 0, fmt.Errorf("%.100q is not the name of a volume", name)
}

func folderOID(name string) (uint32, bool) {
	if name == "base" {
		return 0, true
	}
	oid, err := strconv.ParseUint(name, 10, 32)
	return uint32(oid), err == nil && oid != 0
}

// readSums reads every sums or refs shard of a backup, proved by what its decision says of them.
func (c *Cluster) readSums(ctx context.Context, id, dir string, shards []shardSum, visit func(sumLine) error) error {
	for n, want := range shards {
		key := c.key.backupDir(id) + shardName(dir, n)
		b, err := c.readObject(ctx, key, want.Size)
		if err != nil {
			return err
		}
		if err := want.check(b); err != nil {
			return corrupt(key, err)
		}
		if err := parseSums(b, visit); err != nil {
			return corrupt(key, err)
		}
	}
	return nil
}

func (s shardSum) check(b []byte) error {
	sum := sha256.Sum256(b)
	switch {
	case int64(len(b)) != s.Size:
		return fmt.Errorf("it is not the %d bytes that were written", s.Size)
	case hex.EncodeToString(sum[:]) != s.SHA256:
		return errors.New("its SHA-256 is not the one that was written")
	}
	return nil
}

// sumWriter collects lines into shards.
type sumWriter struct {
	dir    string
	buf    []byte
	shards []shardSum
}

// add appends a line; when a shard is full it goes to put.
func (w *sumWriter) add(l sumLine, put func(name string, body []byte) error) error {
	w.buf = l.appendTo(w.buf)
	if len(w.buf) < sumShardSize {
		return nil
	}
	return w.flush(put)
}

// flush puts the last shard.
func (w *sumWriter) flush(put func(name string, body []byte) error) error {
	if len(w.buf) == 0 {
		return nil
	}
	sum := sha256.Sum256(w.buf)
	body, name := w.buf, shardName(w.dir, len(w.shards))
	w.shards = append(w.shards, shardSum{Size: int64(len(body)), SHA256: hex.EncodeToString(sum[:])})
	w.buf = nil
	return put(name, body)
}
