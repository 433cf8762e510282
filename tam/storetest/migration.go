package storetest

import (
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
	"github.com/go-teep/teep/tam/policy"
)

// OldRow is a row as releases with an older schema wrote it. Columns that a schema does not have yet are
// left out. It is written down here, not made by today's code: that is what makes it old.
type OldRow struct {
	Table   string
	Columns map[string]any // int64, string or []byte
}

// CBOR of the component identifiers ['acme', 'app'] and ['acme'], and what JSON makes of the first.
const (
	oldManifest     = "\x82\x44acme\x43app"
	oldManifestJSON = `["YWNtZQ==","YXBw"]`
)

func oldDevice(id, status, attestation, state string) OldRow {
	thumb := sha256.Sum256([]byte(id))
	return OldRow{"devices", map[string]any{
		"id": id, "key_thumbprint": thumb[:], "agent_key": []byte{1}, "status": status, "revision": int64(3), "first_seen": int64(1e12),
		"last_seen": int64(1e12 + 5), "state": state, "attestation": attestation,
	}}
}

func oldEvent(device string, id, at int64, detail string) OldRow {
	return OldRow{"events", map[string]any{"device_id": device, "id": id, "before": int64(0), "at": at, "kind": "attested", "detail": detail}}
}

// OldRows is at least one row of every table. Those of a table go in when the first schema has it.
func OldRows() []OldRow {
	rows := []OldRow{
		oldDevice("none", "pending", "none", `{"ueid":"AQc=","attestation":{"status":0}}`),
		oldDevice("affirming", "accepted", "affirming", `{"ueid":"AQI=","attestation":{"status":2,"at":"2001-09-09T01:46:40Z"},"inventory":[{"manifest":`+oldManifestJSON+`,"sequence":3,"digest":"CQ=="}]}`),
		oldDevice("warning", "accepted", "warning", `{"ueid":"AQI=","attestation":{"status":32},"inventory":[{"manifest":`+oldManifestJSON+`,"sequence":3},{"manifest":["YQ=="],"sequence":18446744073709551615}]}`),
		oldDevice("contraindicated", "retired", "contraindicated", `{"attestation":{"status":96},"inventory":[{"manifest":`+oldManifestJSON+`,"sequence":3}]}`),
		oldEvent("affirming", 1, 1000, "first"), oldEvent("affirming", 2, 2000, "second"), oldEvent("warning", 3, 1500, "other"),
		{"consumptions", map[string]any{"id": []byte("0123456789abcdef"), "expires": int64(4e12)}},
		{"versions", map[string]any{"manifest": []byte(oldManifest), "sequence": "00000000000000000003",
			"data": `{"manifest":` + oldManifestJSON + `,"sequence":3,"digest":"CQ==","envelope":[1,2,3],"size":7,"publisher":"acme","uploaded":"2001-09-09T01:46:40Z"}`}},
		{"assignments", map[string]any{"manifest": []byte(oldManifest), "data": `{"manifest":` + oldManifestJSON + `,"mode":"required"}`}},
		{"publishers", map[string]any{"name": "acme", "data": `{"Name":"acme","Keys":["AQ=="],"Prefixes":[["YWNtZQ=="]],"Created":"2001-09-09T01:46:40Z","Revoked":"0001-01-01T00:00:00Z"}`}},
		{"publisher_keys", map[string]any{"key": []byte{1}, "name": "acme"}},
		{"api_tokens", map[string]any{"id": "token", "hash": make([]byte, 32), "data": `{"ID":"token","Name":"ops","Scopes":["auditor"],"Expires":"2101-09-09T01:46:40Z"}`}},
		{"token_keys", map[string]any{"generation": int64(7), "secret": make([]byte, 32), "created": int64(1e12)}},
		{"requests", map[string]any{"id": make([]byte, 32), "fingerprint": []byte{1}, "expires": int64(4e12), "answer": []byte("answer")}},
		{"activity", map[string]any{"hour": int64(3600000), "kind": "succeeded", "count": int64(5)}},
		{"policy", map[string]any{"kind": "group", "name": "all", "revision": int64(2), "data": `{"name":"all"}`}},
		{"rollout_counts", map[string]any{"rollout": "r", "stage": int64(1), "progress": "succeeded", "shard": int64(3), "devices": int64(4)}},
		{"identities", map[string]any{"ueid": "AQg=", "device_id": "none"}},
		{"installed", map[string]any{"device_id": "none", "manifest": []byte(oldManifest), "sequence": "00000000000000000002"}},
		{"webhooks", map[string]any{"id": "hook", "data": `{"ID":"hook","URL":"https://example.com","Secret":"AQ==","Created":"2001-09-09T01:46:40Z"}`,
			"position": int64(1), "failures": int64(2), "next": int64(3000), "fault": "it was away", "claimed": int64(0)}},
		{"deposits", map[string]any{"id": "deposit", "device": "", "data": `{"id":"deposit","kind":"data","manifest":` + oldManifestJSON + `,"encryptionInfo":"AQ==","deposited":"2001-09-09T01:46:40Z"}`}},
		{"recordings", map[string]any{"device_id": "affirming", "id": int64(1e15), "direction": "in", "asked": int64(0), "size": int64(2), "data": []byte("ab")}},
		{"field", map[string]any{"hour": time.Now().Truncate(time.Hour).UnixMilli(), "manifest": []byte(oldManifest), "sequence": "00000000000000000003", "devices": int64(9)}},
	}
	return append(rows, oldAudit())
}

// oldEntry is the one entry that the audit log has in [OldRows].
func oldEntry() *audit.Entry {
	e := &audit.Entry{At: time.Unix(1e9, 0).UTC(), Action: audit.ActionPublisherAdd, Target: "acme", Detail: "1 keys"}
	if err := e.Seal(audit.Head{}); err != nil {
		panic(err) // it is always the same entry
	}
	return e
}

func oldAudit() OldRow {
	data, err := json.Marshal(oldEntry())
	if err != nil {
		panic(err) // as above
	}
	return OldRow{"audit", map[string]any{"seq": int64(1), "data": string(data)}}
}

// FillOld puts those of [OldRows] into a database whose tables are not in had yet and are there by now, and
// notes their tables in had. columns tells which columns a table has, with their types; none: there is no
// such table.
func FillOld(t *testing.T, db *sql.DB, columns func(table string) map[string]string, had map[string]bool) {
	t.Helper()
	filled := make(map[string]bool)
	for _, row := range OldRows() {
		types := columns(row.Table)
		if len(types) == 0 || had[row.Table] {
			continue
		}
		filled[row.Table] = true
		var names, marks []string
		var values []any
		for name, v := range row.Columns {
			kind, ok := types[name]
			if !ok {
				continue
			}
			if text, ok := v.(string); ok && kind == "bytea" {
				v = []byte(text)
			}
			names, values = append(names, name), append(values, v)
			marks = append(marks, fmt.Sprintf("$%d", len(values)))
		}
		_, err := db.ExecContext(t.Context(), `INSERT INTO `+row.Table+` (`+strings.Join(names, ", ")+`) VALUES (`+strings.Join(marks, ", ")+`)`, values...)
		must(t, err)
	}
	maps.Copy(had, filled)
	if filled["audit"] {
		e := oldEntry()
		_, err := db.ExecContext(t.Context(), `UPDATE audit_head SET seq = $1, hash = $2`, e.Seq, e.Hash[:])
		must(t, err)
	}
}

// CheckOldRows finds everything in a store that is migrated to today's schema from one that had the tables
// in had, each with its [OldRows].
func CheckOldRows(t *testing.T, s Operations, had map[string]bool) {
	t.Helper()
	ctx, app := t.Context(), suit.NewComponentID("acme", "app")
	for id, status := range map[string]attest.Status{"none": attest.StatusNone, "affirming": attest.StatusAffirming,
		"warning": attest.StatusWarning, "contraindicated": attest.StatusContraindicated} {
		thumb := sha256.Sum256([]byte(id))
		d, err := s.DeviceByKey(ctx, thumb[:])
		must(t, err)
		if d.ID != id || d.Revision != 3 || d.Attestation.Status != status || d.LastSeen.UnixMilli() != 1e12+5 {
			t.Errorf("%s is %+v", id, d)
		}
		found, err := s.FindDevices(ctx, tam.DeviceFilter{Attestation: status.String()}, "", 9)
		must(t, err)
		equal(t, idsOf(found), []string{id})
	}
	// What devices had installed and who they are, although nobody wrote that down separately at first.
	same, err := s.DevicesByUEID(ctx, []byte{1, 2})
	must(t, err)
	equal(t, idsOf(same), []string{"affirming", "warning"})
	with, err := s.DevicesWith(ctx, app, 3, "", 9)
	must(t, err)
	equal(t, idsOf(with), []string{"affirming", "warning"})
	counts, err := s.CountInstalled(ctx, tam.VersionCursor{}, 9)
	must(t, err)
	wanted := []tam.InstalledCount{{Manifest: suit.NewComponentID("a"), Sequence: 1<<64 - 1, Devices: 1}, {Manifest: app, Sequence: 3, Devices: 2}}
	if had["installed"] {
		wanted = append(wanted[:1], tam.InstalledCount{Manifest: app, Sequence: 2, Devices: 1}, wanted[1])
	}
	equal(t, counts, wanted)
	checkOldHistory(t, s)
	checkOldCatalogue(t, s, app)
	for table, check := range map[string]func(*testing.T, Operations){
		"requests": oldRequests, "activity": oldActivity, "policy": oldPolicy, "rollout_counts": oldCounts, "webhooks": oldWebhooks,
		"deposits": oldDeposits, "recordings": oldRecordings, "field": oldField, "audit": oldAuditLog,
	} {
		if had[table] {
			check(t, s)
		}
	}
}

func idsOf(list []tam.Device) []string {
	ids := []string{}
	for _, d := range list {
		ids = append(ids, d.ID)
	}
	return ids
}

// checkOldHistory: the history goes on where it was, and the feed has what comes from now on.
func checkOldHistory(t *testing.T, s Operations) {
	t.Helper()
	ctx := t.Context()
	head, err := s.FeedHead(ctx)
	must(t, err)
	must(t, s.CommitExchange(ctx, tam.Exchange{Event: &tam.Event{DeviceID: "affirming", At: time.Unix(2e9, 0), Kind: tam.EventFailed, Detail: "third"}}))
	var said []string
	for before := int64(0); ; {
		page, err := s.Events(ctx, "affirming", before, 2)
		must(t, err)
		for _, e := range page {
			said, before = append(said, e.Detail), e.ID
		}
		if len(page) < 2 {
			break
		}
	}
	equal(t, said, []string{"third", "second", "first"})
	feed, err := s.FeedEvents(ctx, head, 9)
	must(t, err)
	if len(feed) != 1 || feed[0].Detail != "third" || feed[0].Position <= head {
		t.Errorf("after %d the feed has %+v", head, feed)
	}
	// What was used up stays so.
	want(t, s.CommitExchange(ctx, tam.Exchange{Consume: &tam.Consumption{ID: [16]byte([]byte("0123456789abcdef")), Expires: time.Unix(5e9, 0)}}), tam.ErrConsumed)
}

func checkOldCatalogue(t *testing.T, s Operations, app suit.ComponentID) {
	t.Helper()
	ctx := t.Context()
	versions, err := s.ListVersions(ctx, tam.VersionCursor{}, 9)
	must(t, err)
	if len(versions) != 1 || versions[0].Sequence != 3 || !versions[0].Manifest.Equal(app) || versions[0].Envelope[2] != 3 {
		t.Errorf("versions: %+v", versions)
	}
	want(t, s.AddVersion(ctx, tam.Version{Manifest: app, Sequence: 3}), tam.ErrSequence)
	a, err := s.Assignment(ctx, app)
	must(t, err)
	equal(t, a.Mode, tam.ModeRequired)
	p, err := s.Publisher(ctx, "acme")
	must(t, err)
	equal(t, len(p.Keys), 1)
	want(t, s.AddPublisher(ctx, tam.Publisher{Name: "other", Keys: [][]byte{{1}}}), tam.ErrExists)
	token, err := s.APITokenByHash(ctx, [32]byte{})
	must(t, err)
	equal(t, token.Name, "ops")
	keys, err := s.TokenKeys(ctx)
	must(t, err)
	if len(keys) != 1 || keys[0].Generation != 7 {
		t.Errorf("%d keys of tokens", len(keys))
	}
}

func oldRequests(t *testing.T, s Operations) {
	r, err := s.ReserveRequest(t.Context(), tam.RequestRecord{ID: make([]byte, 32), Fingerprint: []byte{1}, Expires: time.Now().Add(time.Hour)}, time.Now())
	must(t, err)
	if r == nil || string(r.Answer) != "answer" {
		t.Errorf("the remembered request is %+v", r)
	}
}

func oldActivity(t *testing.T, s Operations) {
	list, err := s.ActivitySince(t.Context(), time.UnixMilli(0))
	must(t, err)
	if len(list) != 1 || list[0].Count != 5 || list[0].Kind != tam.EventSucceeded {
		t.Errorf("activity: %+v", list)
	}
}

func oldPolicy(t *testing.T, s Operations) {
	r, err := s.PolicyRecord(t.Context(), tam.KindGroup, "all")
	must(t, err)
	equal(t, r.Revision, int64(2))
}

func oldCounts(t *testing.T, s Operations) {
	list, err := s.RolloutCounts(t.Context(), "r")
	must(t, err)
	equal(t, list, []tam.RolloutCount{{Rollout: "r", Stage: 1, Progress: policy.ProgressSucceeded, Devices: 4}})
}

func oldWebhooks(t *testing.T, s Operations) {
	list, err := s.ListWebhooks(t.Context(), "", 9)
	must(t, err)
	if len(list) != 1 || list[0].URL != "https://example.com" || list[0].Failures != 2 || list[0].LastError != "it was away" {
		t.Errorf("%d webhooks: %s", len(list), fmt.Sprint(list))
	}
}

func oldDeposits(t *testing.T, s Operations) {
	list, err := s.ListDeposits(t.Context(), "", 9)
	must(t, err)
	if len(list) != 1 || list[0].Kind != tam.DepositData {
		t.Errorf("deposits: %+v", list)
	}
}

func oldRecordings(t *testing.T, s Operations) {
	m, err := s.RecordedMessage(t.Context(), "affirming", 1e15)
	must(t, err)
	equal(t, string(m.Data), "ab")
}

func oldField(t *testing.T, s Operations) {
	list, err := s.FieldSince(t.Context(), time.Now().Add(-2*time.Hour), tam.VersionCursor{}, 9)
	must(t, err)
	if len(list) != 1 || list[0].Devices != 9 {
		t.Errorf("field: %+v", list)
	}
}

func oldAuditLog(t *testing.T, s Operations) {
	must(t, s.AddPublisher(t.Context(), tam.Publisher{Name: "next", Keys: [][]byte{{2}}}))
	verifyChain(t, s, 2)
}
