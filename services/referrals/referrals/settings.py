"""The settings of referrals."""

from pydantic import Field, SecretStr

from shared.platform.settings import ServiceSettings


class Settings(ServiceSettings):
    dsn: SecretStr = Field(
        validation_alias="TURNPIKE_REFERRALS_DSN",
        description="PostgreSQL, as the role referrals_app: "
        "postgresql://referrals_app:password@host:5432/turnpike",
    )
