package recovery

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Offsets in ControlFileData, from pg_control.h: the same in 13 to 18.
const (
	controlFullPages = 56  // checkPointCopy.fullPageWrites
	controlLogHints  = 176 // wal_log_hints
	controlChecksums = 252 // data_checksum_version
)

// ignoresInvalid tells whether WAL may come for pages that have no content and without an image of them: VACUUM writes such
// records on a server that logs no hints, and of hash indexes everywhere, and one without full_page_writes never writes images.
// Elsewhere PostgreSQL goes on to end recovery at a page that should be there and is not.
func (r *restore) ignoresInvalid() bool {
	c := r.control
	return len(r.leftOut) > 0 && (r.hashes || c[controlFullPages] == 0 || c[controlLogHints] == 0 && c[controlChecksums] == 0)
}

// invalidPages lets PostgreSQL pass over such records. Start looks that they are of databases that were left out.
func (r *restore) invalidPages() []setting {
	if !r.ignoresInvalid() {
		return nil
	}
	r.note("ignore_invalid_pages is on, for the databases that were left out: look that no WARNING about an uninitialized page names another " +
		"database, which --start does, and remove it from postgresql.auto.conf when recovery has ended")
	return []setting{{"ignore_invalid_pages", "on"}}
}

// IgnoresInvalidPages tells whether what was restored into a directory replays WAL past pages without content.
func IgnoresInvalidPages(dataDir string) bool {
	m, err := readMarker(stateDir(dataDir))
	return err == nil && m != nil && m.Invalid
}

// invalidPage is PostgreSQL's word, from xlogutils.c, on a page without content that WAL refers to.
var invalidPage = regexp.MustCompile(`^page \d+ of relation (\S+) (?:is uninitialized|does not exist)`)

// relationDatabase finds the database in the path of a relation: base/16384/2619, or pg_tblspc/16390/PG_15_202209061/16384/2619.
func relationDatabase(relation string) (uint32, bool) {
	parts := strings.Split(relation, "/")
	if len(parts) < 3 {
		return 0, false
	}
	oid, err := strconv.ParseUint(parts[len(parts)-2], 10, 32)
	return uint32(oid), err == nil
}

// invalid takes a WARNING of the startup process.
func (l *serverLog) invalid(text string) {
	m := invalidPage.FindStringSubmatch(text)
	if m == nil {
		return
	}
	oid, _ := relationDatabase(m[1]) // 0: of no database, which is none that was left out
	if l.invalids == nil {
		l.invalids = map[uint32]string{}
	}
	l.invalids[oid] = text
}

// passedOver says which page of a database that was restored has no content although WAL refers to it; empty: none.
func (s *starting) passedOver() (string, error) {
	left, err := LeftOut(s.dir)
	for oid, text := range s.log.log.invalids {
		if !slices.ContainsFunc(left, func(d Database) bool { return d.OID == oid }) {
			return text, err
		}
	}
	return "", err
}

// passedBefore takes over what earlier starts of this very recovery passed over: each has a log of its own.
func (s *starting) passedBefore() error {
	before, err := readStarted(s.dir)
	if err != nil || before == nil || before.Route != routeDigest(s.Route) || !IgnoresInvalidPages(s.dir) {
		return err
	}
	last := logFollower{path: s.log.path}
	if err := last.read(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look what an earlier start passed over: %w", err)
	}
	s.log.log.invalids = before.Passed
	for _, text := range last.log.invalids {
		s.log.log.invalid(text)
	}
	return nil
}
