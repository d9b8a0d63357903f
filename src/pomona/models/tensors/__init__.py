"""The tensors of checkpoints on disk, without a tensor library: read row block by row block,
written whole or not at all; and what their names tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.models.tensors.files import (
        BLOCK as BLOCK,
        FLOATS as FLOATS,
        NUMBERS as NUMBERS,
        WIDTHS as WIDTHS,
        NewTensor as NewTensor,
        Stored as Stored,
        StoredRows as StoredRows,
        TensorRows as TensorRows,
        Tensors as Tensors,
        View as View,
        content_of as content_of,
        encode as encode,
        encode_finite as encode_finite,
        full_disk as full_disk,
        keep as keep,
        row_blocks as row_blocks,
        safetensors_of as safetensors_of,
        stored_array as stored_array,
        to_float32 as to_float32,
        write_made as write_made,
    )
    from pomona.models.tensors.names import (
        ROLES as ROLES,
        LayerLayout as LayerLayout,
        LayerPlace as LayerPlace,
        canonical as canonical,
        comes_after as comes_after,
        far as far,
        is_buffer as is_buffer,
        is_computed as is_computed,
        is_embedding as is_embedding,
        is_flipped as is_flipped,
        is_head as is_head,
        is_table as is_table,
        place_of as place_of,
        role_of as role_of,
        ties as ties,
    )
    from pomona.models.tensors.output import (
        SHARD as SHARD,
        FileTarget as FileTarget,
        Journal as Journal,
        Output as Output,
        ResultWorkspace as ResultWorkspace,
        ShardLayout as ShardLayout,
        ThreadBuffers as ThreadBuffers,
        check_free as check_free,
        lay_out as lay_out,
        size_of as size_of,
    )
    from pomona.models.tensors.quantised import (
        QUANTISATION as QUANTISATION,
        dequantised as dequantised,
        is_read as is_read,
        packed_names as packed_names,
        settings_of as settings_of,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "files": "BLOCK FLOATS NUMBERS WIDTHS NewTensor Stored StoredRows TensorRows Tensors View "
        "content_of encode encode_finite full_disk keep row_blocks safetensors_of stored_array "
        "to_float32 write_made",
        "names": "ROLES LayerLayout LayerPlace canonical comes_after far is_buffer is_computed "
        "is_embedding is_flipped is_head is_table place_of role_of ties",
        "output": "SHARD FileTarget Journal Output ResultWorkspace ShardLayout ThreadBuffers "
        "check_free lay_out size_of",
        "quantised": "QUANTISATION dequantised is_read packed_names settings_of",
    },
)
