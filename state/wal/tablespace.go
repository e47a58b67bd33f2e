package wal

import "bytes"

// resourceTablespace is RM_TBLSPC_ID; the info of CREATE TABLESPACE is zero.
const resourceTablespace = 5

// Tablespace is what CREATE TABLESPACE wrote. A replay of it removes what it finds in the location, and makes it anew.
type Tablespace struct {
	Start, End LSN
	OID        uint32
	Location   string // as the server had it; relative: in the data directory
}

// EachTablespace lets visit be told of every CREATE TABLESPACE; its error ends the call of Segment.
func (s *Scanner) EachTablespace(visit func(Tablespace) error) { s.spaces = visit }

// tablespace decodes xl_tblspc_create_rec; ok is false for any other record.
func (r record) tablespace(major int) (t Tablespace, ok bool, err error) {
	if r.resource != resourceTablespace || r.info&infoMask != 0 {
		return t, false, nil
	}
	data, err := mainData(r.body, r.length, major)
	if err != nil {
		return t, false, corrupt(r.start, "%s", err)
	}
	c := cursor{left: data}
	t = Tablespace{Start: r.start, End: r.end, OID: c.u32()}
	if err := c.err("tablespace"); err != nil {
		return t, false, corrupt(r.start, "%s", err)
	}
	location, _, _ := bytes.Cut(c.left, []byte{0})
	t.Location = string(location)
	return t, true, nil
}

// EndsInName tells whether a record that was begun in the segment before, and whose rest begins this one, may end in a name, as
// that of CREATE TABLESPACE does. b is the beginning of the segment, a page at least. Most records do not.
func EndsInName(b []byte, z SegmentSize) bool {
	const (
		header   = 40             // XLogLongPageHeaderData
		restFlag = 1              // XLP_FIRST_IS_CONTRECORD
		longest  = 1024 + 24 + 32 // MAXPGPATH, and what comes before the name
	)
	if z.Check() != nil || len(b) < header+longest+1 || b[2]&restFlag == 0 {
		return false
	}
	c := cursor{left: b[16:]} // XLogPageHeaderData.xlp_rem_len
	rest := c.u32()
	if rest == 0 || rest > longest {
		return false
	}
	last := b[header+rest-1]
	return last == 0 && (rest == 1 || b[header+rest-2] >= ' ')
}
