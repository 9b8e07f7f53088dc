// Writes what CometBFT's own library hashes and signs, for values of many sizes, as JSON for `commit_vectors.json`:
//
//	cd tools/cometbft && go run ../../tests/govern/recorded/commit_vectors.go > ../../tests/govern/recorded/commit_vectors.json
package main

import (
	"encoding/hex"
	"encoding/json"
	"math"
	"math/rand"
	"os"
	"time"

	"github.com/cometbft/cometbft/crypto/ed25519"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	cmtversion "github.com/cometbft/cometbft/proto/tendermint/version"
	"github.com/cometbft/cometbft/types"
)

var draw = rand.New(rand.NewSource(1))

func octets(size int) []byte {
	out := make([]byte, size)
	draw.Read(out)
	return out
}

// Whole draws a number of any length, its bounds among them.
func whole(most int64) int64 {
	switch draw.Intn(8) {
	case 0:
		return most
	case 1:
		return 1
	}
	return 1 + draw.Int63()>>draw.Intn(63)%most
}

func moment() time.Time {
	switch draw.Intn(6) {
	case 0:
		return time.Unix(0, 0).UTC()
	case 1:
		return time.Unix(-whole(62_135_596_800), draw.Int63n(1_000_000_000)).UTC()
	case 2:
		return time.Unix(whole(253_402_300_799), 0).UTC()
	}
	return time.Unix(whole(253_402_300_799), draw.Int63n(1_000_000_000)).UTC()
}

func blockID() types.BlockID {
	if draw.Intn(4) == 0 {
		return types.BlockID{}
	}
	return types.BlockID{Hash: octets(32), PartSetHeader: types.PartSetHeader{Total: uint32(whole(math.MaxUint32)), Hash: octets(32)}}
}

func hash() []byte {
	if draw.Intn(8) == 0 {
		return nil
	}
	return octets(32)
}

func stamp(t time.Time) []int64 { return []int64{t.Unix(), int64(t.Nanosecond())} }

func id(b types.BlockID) []any {
	return []any{hex.EncodeToString(b.Hash), b.PartSetHeader.Total, hex.EncodeToString(b.PartSetHeader.Hash)}
}

func vote() map[string]any {
	v := &types.Vote{Type: cmtproto.PrecommitType, Height: whole(math.MaxInt64), Round: int32(whole(math.MaxInt32)) - 1, BlockID: blockID(), Timestamp: moment()}
	chain := "fedmeta-" + hex.EncodeToString(octets(20))
	return map[string]any{"chain_id": chain, "height": v.Height, "round": v.Round, "block_id": id(v.BlockID), "time": stamp(v.Timestamp), "due": hex.EncodeToString(types.VoteSignBytes(chain, v.ToProto()))}
}

func header() map[string]any {
	h := types.Header{
		Version: cmtversion.Consensus{Block: uint64(whole(math.MaxInt64)), App: uint64(whole(math.MaxInt64)) - 1},
		ChainID: "fedmeta-" + hex.EncodeToString(octets(20)), Height: whole(math.MaxInt64), Time: moment(), LastBlockID: blockID(),
		LastCommitHash: hash(), DataHash: hash(), ValidatorsHash: octets(32), NextValidatorsHash: hash(), ConsensusHash: hash(),
		AppHash: octets(draw.Intn(33)), LastResultsHash: hash(), EvidenceHash: hash(), ProposerAddress: octets(20),
	}
	fields := []any{h.Version.Block, h.Version.App, h.ChainID, h.Height, stamp(h.Time), id(h.LastBlockID)}
	for _, one := range [][]byte{h.LastCommitHash, h.DataHash, h.ValidatorsHash, h.NextValidatorsHash, h.ConsensusHash, h.AppHash, h.LastResultsHash, h.EvidenceHash, h.ProposerAddress} {
		fields = append(fields, hex.EncodeToString(one))
	}
	return map[string]any{"fields": fields, "due": hex.EncodeToString(h.Hash())}
}

// Set draws validators, and gives them in the order in which they come and in CometBFT's.
func set(size int) map[string]any {
	given, ordered, all := [][]any{}, [][]any{}, []*types.Validator{}
	for range size {
		one := types.NewValidator(ed25519.PubKey(octets(32)), whole(types.MaxTotalVotingPower/int64(size)))
		if draw.Intn(3) == 0 {
			one.VotingPower = 7
		}
		all = append(all, one)
		given = append(given, []any{hex.EncodeToString(one.PubKey.Bytes()), one.VotingPower})
	}
	made := types.NewValidatorSet(all)
	for _, one := range made.Validators {
		ordered = append(ordered, []any{hex.EncodeToString(one.PubKey.Bytes()), one.VotingPower, hex.EncodeToString(one.Address)})
	}
	return map[string]any{"given": given, "ordered": ordered, "due": hex.EncodeToString(made.Hash())}
}

func main() {
	out := map[string][]map[string]any{}
	for range 24 {
		out["votes"] = append(out["votes"], vote())
		out["headers"] = append(out["headers"], header())
	}
	for _, size := range []int{1, 2, 3, 4, 5, 7, 8, 9, 16, 33} {
		out["sets"] = append(out["sets"], set(size))
	}
	for size := range 6 {
		txs := types.Txs{}
		given := []string{}
		for range size {
			tx := octets(draw.Intn(40))
			txs, given = append(txs, tx), append(given, hex.EncodeToString(tx))
		}
		out["data"] = append(out["data"], map[string]any{"given": given, "due": hex.EncodeToString(txs.Hash())})
	}
	to := json.NewEncoder(os.Stdout)
	to.SetIndent("", " ")
	if err := to.Encode(out); err != nil {
		panic(err)
	}
}
